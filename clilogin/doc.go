// Package clilogin is login for command-line programs: the browser on loopback
// (RFC 8252) with PKCE, state, an exact issuer check and a DPoP key of its own;
// a credential file that many processes share without losing it; tokens per
// audience, refreshed once however many ask; protected-resource metadata
// (RFC 9728), so that a token goes only where it belongs; and step-up in the
// middle of a request (RFC 9470).
//
//	store, err := clilogin.OpenStore("mytool")
//	p := clilogin.Profile{Store: store, Name: "default", ClientID: "mytool"}
//	_, err = p.Login(ctx, clilogin.Login{Issuer: "https://id.example.com", Prompter: clilogin.Terminal{Out: os.Stderr}})
//	resp, err := p.Do(ctx, clilogin.Call{Method: "GET", URL: "https://api.example.com/notes"})
//
// The package never decides whether a browser may be opened: a caller that
// passes no Prompter gets CodeLoginNeeded or CodeStepUpNeeded instead. Talking
// to the authorization server, proofs and challenges are the root package's;
// what a command prints and its exit code are the command's.
package clilogin
