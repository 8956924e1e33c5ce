// Package countersign is the Go SDK of Countersign: what a resource server
// needs to ask for proof, and what a client needs to give it.
//
// A resource server makes one [Verifier] with [New] and wraps its handlers
// with [Verifier.Protect]. The verifier checks RFC 9068 access tokens and RFC
// 9449 DPoP proofs with nothing but the issuer's published keys, is told over
// the revocation feed which tokens have ended, and answers what is missing as
// RFC 6750, RFC 9470 and RFC 9728 say:
//
//	v, err := countersign.New(ctx, countersign.Config{
//		Issuer:   "https://id.example.com",
//		Audience: "https://api.example.com",
//		Client:   countersign.ClientAuth{ID: "notes-api", Key: key},
//	})
//	mux.Handle("POST /keys/rotate", v.Protect(rotate,
//		countersign.RequireScope("keys:rotate"),
//		countersign.RequireAssurance("phr"),
//		countersign.RequireFresh(5*time.Minute),
//		countersign.Sensitive()))
//
// Where policies decide, [RequireAction] and [Authorize] ask them: within this process, if
// Config.Policies is pep.Engine() of package pep, and of the issuer otherwise and where
// only that can decide.
//
// A client uses a [Transport] in its http.Client: it attaches the token and a
// proof, renews once for many goroutines and answers a demand for more proof
// through a callback. [Discover], [DPoPKey] and [TokenClient] are the pieces
// beneath it.
//
// The package imports go-jose and the standard library only. It keeps nothing
// on disk: a [TokenStore] does. How the server decides, and what its rungs
// mean, is the server's; the package compares them.
package countersign
