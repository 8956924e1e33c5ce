package server

import (
	"net"
	"net/http"
	"net/url"
	"strconv"
	"strings"

	"github.com/countersign-dev/countersign/internal/portal/static"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

// maxQuery is the most a page's query may be; the longest holds a sealed
// authorization request.
const maxQuery = 64 << 10

// Handler is everything the public listener serves: two muxes with different
// defences. The API takes tokens and has no cookies; pages take cookies and
// refuse what another site sends.
func (s *Server) Handler() (http.Handler, error) {
	api := http.NewServeMux()
	s.oauth.API(s.mount(api, s.renderAPI))
	s.hub.Mount(api, s.admin.Render)
	s.admin.Mount(api)
	s.pdp.Mount(api.Handle)
	s.mount(api, s.renderAPI)("/", func(w http.ResponseWriter, r *http.Request) error {
		if strings.Contains(r.URL.Path, wellKnown) { // a browser-based client goes on only after a miss that it can read
			w.Header().Set("Access-Control-Allow-Origin", "*")
		}
		return problem.New(problem.NotFound, "not_found", "There is nothing at this address.")
	})

	origin, err := web.NewOriginCheck(s.Config.Issuer)
	if err != nil {
		return nil, err
	}
	pages := http.NewServeMux()
	browse := s.mount(pages, s.portal.RenderError)
	guarded := func(pattern string, h web.Handler) {
		browse(pattern, func(w http.ResponseWriter, r *http.Request) error {
			if err := origin.Check(r); err != nil {
				return err
			}
			if err := web.CheckQuery(r, maxQuery); err != nil {
				return err
			}
			return h(w, r)
		})
	}
	// An authorization request may come from another site, as a form even
	// (OpenID Connect Core §3.1.2.1): it changes nothing. One to sign out, too: it ends
	// only the session of which it brings a token.
	s.oauth.Pages(browse)
	s.portal.Routes(guarded)
	pages.Handle("GET /static/", static.Assets())
	browse("/", func(http.ResponseWriter, *http.Request) error {
		return problem.New(problem.NotFound, "page_unknown", "")
	})

	sparing := s.sparing(api)
	split := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if isAPI(r.URL.Path) {
			sparing.ServeHTTP(w, r)
			return
		}
		pages.ServeHTTP(w, r)
	})
	return s.guarded(split, s.Config.Issuer, s.noCertificates())
}

// guarded puts before what a listener serves what every one has: its place in the
// queue, its line in the log, whose certificate it is, development's own rules.
func (s *Server) guarded(h http.Handler, origin string, certs web.ClientCerts) (http.Handler, error) {
	dev, err := s.development(s.released(h), origin)
	if err != nil {
		return nil, err
	}
	rec := web.Recorder{Log: s.log, Proxies: s.proxies}
	return s.shed(rec.Wrap(s.metrics.observe(certs.Wrap(s.limit(dev))))), nil
}

// wellKnown is in the path of metadata: clients also look for it below a path that
// they take for the issuer's (clients.md §2.1).
const wellKnown = "/.well-known/"

// isAPI reports whether a path belongs to clients, resource servers and auditors.
func isAPI(path string) bool {
	return path == "/v1" || strings.HasPrefix(path, "/v1/") || strings.Contains(path, wellKnown) ||
		strings.HasPrefix(path, "/log/") || strings.HasPrefix(path, "/access/") ||
		strings.HasPrefix(path, "/oauth/") && path != "/oauth/authorize" && path != "/oauth/continue" && path != "/oauth/logout"
}

func (s *Server) mount(mux *http.ServeMux, render web.Renderer) func(string, web.Handler) {
	return func(pattern string, h web.Handler) { mux.Handle(pattern, h.With(render)) }
}

// renderAPI shows what the OAuth endpoints did not render themselves: faults of
// ours. Misses are JSON too (clients.md §2.1).
func (s *Server) renderAPI(w http.ResponseWriter, r *http.Request, err error) {
	code, words := "server_error", "Something failed in the server. Reference: "+web.RecordOf(r).Ref()
	if p := problem.From(err); p != nil {
		code, words = p.Code, p.Detail
	}
	if werr := web.JSON(w, web.StatusOf(err), map[string]string{"error": code, "error_description": words}); werr != nil {
		s.log.Error("render an error", "err", werr)
	}
}

// development guards loopback in development mode, and sends pages opened by
// address to the name that passkeys work for (mechanisms I22 to I26).
func (s *Server) development(next http.Handler, origin string) (http.Handler, error) {
	if !s.Config.Development {
		return next, nil
	}
	u, err := url.Parse(origin)
	if err != nil {
		return nil, err
	}
	port, err := strconv.Atoi(u.Port())
	if err != nil {
		return nil, err
	}
	guard := web.NewDevelopment(port)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if err := guard.Check(r); err != nil {
			s.portal.RenderError(w, r, err)
			return
		}
		if host, _, err := net.SplitHostPort(r.Host); err == nil && host != u.Hostname() && r.Method == http.MethodGet && !isAPI(r.URL.Path) {
			http.Redirect(w, r, s.Config.Issuer+r.URL.RequestURI(), http.StatusTemporaryRedirect)
			return
		}
		next.ServeHTTP(w, r)
	}), nil
}
