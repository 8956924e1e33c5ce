package interop

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/url"
	"sync"
	"testing"
	"time"

	"github.com/modelcontextprotocol/go-sdk/auth"
	"github.com/modelcontextprotocol/go-sdk/mcp"
	"github.com/modelcontextprotocol/go-sdk/oauthex"
	"golang.org/x/oauth2"
	"golang.org/x/sync/errgroup"

	"github.com/countersign-dev/countersign/test/browser/chrome"
)

// expiry is longer than an access token lives.
const expiry = 6 * time.Minute

// profile is a browser of Dana's in which nobody is signed in; her passkey is
// there.
func (l *lab) profile(t testing.TB) *chrome.Browser {
	t.Helper()
	b := chrome.New(t)
	b.AllowConsole("favicon.ico") // an app's own last page has none
	key := b.AddAuthenticator(chrome.AuthenticatorOptions{BackupEligible: true, BackedUp: true})
	for _, c := range l.passkey.Credentials() {
		key.AddCredential(c)
	}
	return b
}

// mcpCases are what every MCP client is asked to do.
var mcpCases = []string{"login and tool call", "refresh, and four parallel calls at expiry", "a metadata document", "registers itself"}

// scriptCases are what a client of js/mcp.mjs does, each with a login of its own in
// a fresh browser.
func scriptCases(program string, names ...string) (list []kase) {
	for _, name := range names {
		list = append(list, kase{name, func(t testing.TB, l *lab) { l.node(t, l.profile(t), "mcp.mjs", name, program) }})
	}
	return list
}

// goClient is a client with the Go SDK, and the person who uses it.
type goClient struct {
	t       testing.TB
	l       *lab
	browser *chrome.Browser
	asked   chan string // addresses to open
	logins  int
	tokens  *lateTokens
	session *mcp.ClientSession
}

// lateTokens are a client's tokens, whose time can be up on the client's clock.
type lateTokens struct {
	mu     sync.Mutex
	ctx    context.Context
	config *oauth2.Config
	source oauth2.TokenSource
}

// Token implements oauth2.TokenSource.
func (s *lateTokens) Token() (*oauth2.Token, error) {
	s.mu.Lock()
	source := s.source
	s.mu.Unlock()
	return source.Token()
}

func (s *lateTokens) expire(t testing.TB) {
	t.Helper()
	tok, err := s.Token()
	check(t, err)
	late := *tok
	late.Expiry = time.Now().Add(-time.Second)
	s.mu.Lock()
	defer s.mu.Unlock()
	s.source = s.config.TokenSource(s.ctx, &late)
}

// goes connects a client of the Go SDK.
func goes(t testing.TB, l *lab, change func(*auth.AuthorizationCodeHandlerConfig)) *goClient {
	t.Helper()
	c := &goClient{t: t, l: l, browser: l.profile(t), asked: make(chan string)}
	ln := l.listen()
	back := answered("http://127.0.0.1:" + port(ln))
	srv := &http.Server{ReadHeaderTimeout: limit, Handler: back}
	go srv.Serve(ln)
	t.Cleanup(func() { srv.Close() })
	cfg := &auth.AuthorizationCodeHandlerConfig{
		PreregisteredClient: &oauthex.ClientCredentials{ClientID: "mcp-client"},
		RedirectURL:         back.url + "/callback",
		Client:              l.http(),
		AuthorizationCodeFetcher: func(_ context.Context, args *auth.AuthorizationArgs) (*auth.AuthorizationResult, error) {
			c.asked <- args.URL
			u, err := url.Parse((<-back.got).URL)
			if err != nil {
				return nil, err
			}
			q := u.Query()
			return &auth.AuthorizationResult{Code: q.Get("code"), State: q.Get("state"), Iss: q.Get("iss")}, nil
		},
		NewTokenSource: func(ctx context.Context, config *oauth2.Config, tok *oauth2.Token) (oauth2.TokenSource, error) {
			c.tokens = &lateTokens{ctx: ctx, config: config, source: config.TokenSource(ctx, tok)}
			return c.tokens, nil
		},
	}
	if change != nil {
		change(cfg)
	}
	handler, err := auth.NewAuthorizationCodeHandler(cfg)
	check(t, err)
	c.does(func(ctx context.Context) (err error) {
		c.session, err = mcp.NewClient(&mcp.Implementation{Name: "interop", Version: "1"}, nil).Connect(ctx,
			&mcp.StreamableClientTransport{Endpoint: l.mcp, HTTPClient: l.http(), OAuthHandler: handler, DisableStandaloneSSE: true}, nil)
		return err
	})
	t.Cleanup(func() { c.session.Close() })
	return c
}

// does something that may need the person, who does what the pages ask.
func (c *goClient) does(f func(context.Context) error) {
	c.t.Helper()
	done := make(chan error, 1)
	go func() { done <- f(context.WithoutCancel(c.t.Context())) }()
	for end := time.After(limit); ; {
		select {
		case url := <-c.asked:
			c.logins++
			visit(c.t, c.l, c.browser, url)
		case err := <-done:
			check(c.t, err)
			return
		case <-end:
			c.t.Fatal("the client does not answer")
		}
	}
}

// calls a tool and gives the text of its answer.
func (c *goClient) calls(tool string) (said string) {
	c.t.Helper()
	c.does(func(ctx context.Context) (err error) {
		said, err = c.call(ctx, tool)
		return err
	})
	return said
}

func (c *goClient) call(ctx context.Context, tool string) (string, error) {
	r, err := c.session.CallTool(ctx, &mcp.CallToolParams{Name: tool})
	if err != nil {
		return "", err
	}
	if r.IsError || len(r.Content) == 0 {
		return "", errors.New("the tool failed")
	}
	text, ok := r.Content[0].(*mcp.TextContent)
	if !ok {
		return "", errors.New("the tool gave no text")
	}
	return text.Text, nil
}

// lasts has four calls under way whenever the token expires: nobody is signed out.
func (c *goClient) lasts(rounds int) {
	c.t.Helper()
	who := c.calls("whoami")
	for range rounds {
		c.l.ahead.Add(int64(expiry))
		c.tokens.expire(c.t)
		c.does(func(ctx context.Context) error {
			var g errgroup.Group
			for range 4 {
				g.Go(func() error {
					said, err := c.call(ctx, "whoami")
					if err == nil && said != who {
						err = fmt.Errorf("somebody else: %q", said)
					}
					return err
				})
			}
			return g.Wait()
		})
	}
	if c.logins != 1 {
		c.t.Errorf("it took %d logins", c.logins)
	}
}

// goCases are what the Go SDK does.
var goCases = []kase{
	{"login and tool call", func(t testing.TB, l *lab) {
		c := goes(t, l, nil)
		if c.calls("whoami") == "" || c.logins != 1 {
			t.Errorf("%d logins", c.logins)
		}
	}},
	{"refresh, and four parallel calls at expiry", func(t testing.TB, l *lab) { goes(t, l, nil).lasts(3) }},
	{"more scope on 403", func(t testing.TB, l *lab) {
		c := goes(t, l, nil)
		c.calls("whoami")
		if said := c.calls("deploy"); said != "Deployed." || c.logins != 2 {
			t.Errorf("%q after %d logins", said, c.logins)
		}
	}},
	{"a metadata document", func(t testing.TB, l *lab) {
		c := goes(t, l, func(cfg *auth.AuthorizationCodeHandlerConfig) {
			cfg.PreregisteredClient = nil
			cfg.ClientIDMetadataDocumentConfig = &auth.ClientIDMetadataDocumentConfig{URL: l.document}
		})
		c.lasts(1)
	}},
	{"registers itself", func(t testing.TB, l *lab) {
		c := goes(t, l, func(cfg *auth.AuthorizationCodeHandlerConfig) {
			cfg.PreregisteredClient = nil
			cfg.DynamicClientRegistrationConfig = &auth.DynamicClientRegistrationConfig{Metadata: &oauthex.ClientRegistrationMetadata{
				ClientName: "Interop", RedirectURIs: []string{cfg.RedirectURL}, TokenEndpointAuthMethod: "none",
				GrantTypes: []string{"authorization_code", "refresh_token"}, ResponseTypes: []string{"code"},
			}}
		})
		c.lasts(1)
	}},
}
