package web

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"net/netip"
	"regexp"
	"strings"
	"testing"

	"github.com/countersign-dev/countersign/internal/problem"
)

// recorded serves a request through a recorder and gives the answer and the
// line.
func recorded(t *testing.T, h http.Handler, r *http.Request, p *Proxies) (*httptest.ResponseRecorder, map[string]any) {
	t.Helper()
	var log bytes.Buffer
	w := httptest.NewRecorder()
	Recorder{Log: slog.New(slog.NewJSONHandler(&log, nil)), Proxies: p}.Wrap(h).ServeHTTP(w, r)
	if n := strings.Count(log.String(), "\n"); n != 1 {
		t.Fatalf("%d lines: %s", n, log.String())
	}
	var line map[string]any
	if err := json.Unmarshal(log.Bytes(), &line); err != nil {
		t.Fatal(err)
	}
	return w, line
}

func TestRecorder(t *testing.T) {
	mux := http.NewServeMux()
	var seen string
	mux.Handle("GET /notes/{id}", Handler(func(w http.ResponseWriter, r *http.Request) error {
		seen = RecordOf(r).Ref()
		RecordOf(r).Add(slog.String("actor", "usr_1"))
		return JSON(w, http.StatusCreated, map[string]string{"a": "<"})
	}).With(nil))
	w, line := recorded(t, mux, httptest.NewRequest("GET", "/notes/canary-in-path?canary=query", nil), nil)
	ref := w.Header().Get(RefHeader)
	if !regexp.MustCompile(`^[0-9A-F]{6}$`).MatchString(ref) || ref != seen || line["ref"] != ref {
		t.Errorf("reference %q, %q, %v", ref, seen, line["ref"])
	}
	if line["route"] != "GET /notes/{id}" || line["status"] != 201.0 || line["actor"] != "usr_1" || line["client"] != "192.0.2.1" || line["bytes"] != float64(w.Body.Len()) || line["level"] != "INFO" {
		t.Errorf("line %v", line)
	}
	for _, v := range line {
		if s, ok := v.(string); ok && strings.Contains(s, "canary") {
			t.Errorf("the line tells %q", s)
		}
	}
	h := w.Header()
	if h.Get("Content-Type") != "application/json" || h.Get("Cache-Control") != "no-store" || h.Get("X-Content-Type-Options") != "nosniff" {
		t.Errorf("headers %v", h)
	}
	if RecordOf(httptest.NewRequest("GET", "/", nil)).Ref() == "" {
		t.Error("no record without a recorder")
	}
}

func TestHandlerErrors(t *testing.T) {
	render := func(w http.ResponseWriter, r *http.Request, err error) { w.WriteHeader(StatusOf(err)) }
	for _, c := range []struct {
		err    error
		status int
	}{
		{problem.New(problem.Invalid, "x", ""), 400},
		{problem.New(problem.Unauthenticated, "x", ""), 401},
		{problem.New(problem.StepUp, "x", ""), 401},
		{problem.New(problem.Denied, "x", ""), 403},
		{problem.New(problem.NotFound, "x", ""), 404},
		{problem.New(problem.Conflict, "x", ""), 409},
		{problem.New(problem.Throttled, "x", ""), 429},
		{problem.New(problem.Unavailable, "x", ""), 503},
		{problem.New("odd", "x", ""), 500},
		{errors.New("plain"), 500},
	} {
		w, line := recorded(t, Handler(func(http.ResponseWriter, *http.Request) error { return c.err }).With(render), httptest.NewRequest("GET", "/", nil), nil)
		if w.Code != c.status || line["error"] != c.err.Error() || (line["problem"] == "x") != (problem.From(c.err) != nil) || (line["level"] == "ERROR") != (c.status >= 500) {
			t.Errorf("%v: %d %v", c.err, w.Code, line)
		}
	}
	if err := JSON(httptest.NewRecorder(), 200, func() {}); err == nil {
		t.Error("a function has no JSON")
	}
}

func TestRecorderPanic(t *testing.T) {
	w, line := recorded(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic("boom") }), httptest.NewRequest("GET", "/", nil), nil)
	if w.Code != 500 || line["panic"] != "boom" || line["status"] != 500.0 || strings.Contains(w.Body.String(), "boom") || !strings.Contains(w.Body.String(), w.Header().Get(RefHeader)) {
		t.Errorf("%d %s %v", w.Code, w.Body, line)
	}
	w, line = recorded(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { w.Write([]byte("a")); panic("late") }), httptest.NewRequest("GET", "/", nil), nil)
	if w.Code != 200 || line["panic"] != "late" || w.Body.String() != "a" {
		t.Errorf("%d %s %v", w.Code, w.Body, line)
	}
	defer func() {
		if recover() != http.ErrAbortHandler {
			t.Error("an aborted answer is not aborted")
		}
	}()
	recorded(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) { panic(http.ErrAbortHandler) }), httptest.NewRequest("GET", "/", nil), nil)
}

func TestStatusWriter(t *testing.T) {
	_, line := recorded(t, http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		w.WriteHeader(103)
		w.WriteHeader(202)
		if err := http.NewResponseController(w).Flush(); err != nil {
			t.Error(err)
		}
	}), httptest.NewRequest("GET", "/", nil), nil)
	if line["status"] != 202.0 {
		t.Errorf("%v", line)
	}
	if _, line = recorded(t, http.NotFoundHandler(), httptest.NewRequest("GET", "/", nil), nil); line["status"] != 404.0 {
		t.Errorf("%v", line)
	}
	if _, line = recorded(t, http.HandlerFunc(func(http.ResponseWriter, *http.Request) {}), httptest.NewRequest("GET", "/", nil), nil); line["status"] != 200.0 {
		t.Errorf("%v", line)
	}
}

func TestNewProxies(t *testing.T) {
	for _, c := range []struct {
		hop, header string
		ok          bool
	}{
		{"10.0.0.1", XForwardedFor, true},
		{"10.0.0.1/32", "x-forwarded-for", true},
		{"::1", Forwarded, true},
		{"::1/128", Forwarded, true},
		{"unix", Forwarded, true},
		{"*", Forwarded, false},
		{"10.0.0.0/8", Forwarded, false},
		{"::1/32", Forwarded, false},
		{"::/0", Forwarded, false},
		{"0.0.0.0", Forwarded, false},
		{"::", Forwarded, false},
		{"10.0.0.1/128", Forwarded, false},
		{"fe80::1%eth0", Forwarded, false},
		{"localhost", Forwarded, false},
		{"", Forwarded, false},
		{"10.0.0.1", "", false},
		{"10.0.0.1", "X-Real-IP", false},
		{"10.0.0.1", "Forwarded, X-Forwarded-For", false},
	} {
		if p, err := NewProxies([]string{c.hop}, c.header); (err == nil) != c.ok || (p == nil) != (err != nil) {
			t.Errorf("%q with %q: %v", c.hop, c.header, err)
		}
	}
	if _, err := NewProxies(nil, ""); err != nil {
		t.Error(err)
	}
}

func TestClientAddr(t *testing.T) {
	proxies := func(header string, hops ...string) *Proxies {
		p, err := NewProxies(hops, header)
		if err != nil {
			t.Fatal(err)
		}
		return p
	}
	xff, fwd := proxies(XForwardedFor, "10.0.0.1", "10.0.0.2", "unix"), proxies(Forwarded, "10.0.0.1", "10.0.0.2", "::1")
	none := proxies("")
	for _, c := range []struct {
		p      *Proxies
		peer   string
		header http.Header
		want   string // "" is unknown
	}{
		{nil, "1.2.3.4:5", nil, "1.2.3.4"},
		{none, "[::ffff:1.2.3.4]:5", nil, "1.2.3.4"},
		{none, "nonsense", nil, ""},
		{none, "@", nil, ""},
		{none, "1.2.3.4:5", http.Header{XForwardedFor: {"9.9.9.9"}}, ""},
		{none, "1.2.3.4:5", http.Header{"Via": {"1.1 x"}}, ""},
		{none, "1.2.3.4:5", http.Header{"X_forwarded_user": {"x"}}, "1.2.3.4"},
		{xff, "1.2.3.4:5", nil, "1.2.3.4"},
		{xff, "1.2.3.4:5", http.Header{XForwardedFor: {"9.9.9.9"}}, ""},
		{xff, "10.0.0.1:5", nil, ""},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"9.9.9.9"}}, "9.9.9.9"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"6.6.6.6, 9.9.9.9"}}, "9.9.9.9"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"6.6.6.6", "9.9.9.9 ,10.0.0.2"}}, "9.9.9.9"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"10.0.0.2"}}, ""},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"a"}}, ""},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {""}}, ""},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"9.9.9.9,"}}, ""},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"a, 9.9.9.9"}}, "9.9.9.9"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"9.9.9.9, a, 10.0.0.2"}}, ""},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"9.9.9.9:1234"}}, "9.9.9.9"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"[2001:db8::1]:80"}}, "2001:db8::1"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"2001:db8::1"}}, "2001:db8::1"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"[2001:db8::1]"}}, "2001:db8::1"},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"[2001:db8::1"}}, ""},
		{xff, "10.0.0.1:5", http.Header{XForwardedFor: {"fe80::1%x"}}, ""},
		{xff, "10.0.0.1:5", http.Header{Forwarded: {"for=9.9.9.9"}}, ""}, // the other header is not read
		{xff, "unix", http.Header{XForwardedFor: {"9.9.9.9"}}, "9.9.9.9"},
		{fwd, "unix", http.Header{Forwarded: {"for=9.9.9.9"}}, ""},
		{fwd, "unix", nil, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=9.9.9.9"}}, "9.9.9.9"},
		{fwd, "[::1]:5", http.Header{Forwarded: {`For="[2001:db8::1]:4711";proto=https`}}, "2001:db8::1"},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=6.6.6.6", `by=10.0.0.1 ; for=9.9.9.9 , for="10.0.0.2:80"`}}, "9.9.9.9"},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=unknown"}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=_hidden"}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=9.9.9.9,proto=https"}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {`for="6.6.6.6, for=9.9.9.9`}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {`for="6.6.6.6`, `for=9.9.9.9;by="x"`}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {`for="9.9.9.\9"`}}, "9.9.9.9"},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {`for="\`}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=\"\x01\""}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=9.9.9.9;for=6.6.6.6"}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=9.9.9.9;"}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for=9.9.9.9 x"}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for"}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {"for="}}, ""},
		{fwd, "10.0.0.1:5", http.Header{Forwarded: {""}}, ""},
	} {
		r := httptest.NewRequest("GET", "/", nil)
		r.RemoteAddr, r.Header = c.peer, c.header
		if c.peer == "unix" {
			r = r.WithContext(context.WithValue(r.Context(), http.LocalAddrContextKey, &net.UnixAddr{Name: "/s", Net: "unix"}))
		}
		var got netip.Addr
		recorded(t, http.HandlerFunc(func(_ http.ResponseWriter, r *http.Request) { got = ClientAddr(r) }), r, c.p)
		if want, _ := netip.ParseAddr(c.want); got != want {
			t.Errorf("%s %v: %v, want %q", c.peer, c.header, got, c.want)
		}
	}
}

// Whatever a client writes first, it cannot choose the address a trusted hop
// appends: it is that one or unknown.
func FuzzForwarded(f *testing.F) {
	for _, s := range []string{"for=1.2.3.4", `for="[::1]:2";by=x`, `for="`, `for="\`, "a=b;c=d,for=x", ","} {
		f.Add(s)
	}
	p := &Proxies{addrs: []netip.Addr{netip.MustParseAddr("10.0.0.1")}}
	f.Fuzz(func(t *testing.T, s string) {
		for header, last := range map[string]string{Forwarded: "for=9.9.9.9", XForwardedFor: "9.9.9.9"} {
			p.header = header
			r := &http.Request{RemoteAddr: "10.0.0.1:1", Header: http.Header{header: {s, last}}}
			if a := p.client(r); a.IsValid() && a.String() != "9.9.9.9" {
				t.Fatalf("%s: %q made %s", header, s, a)
			}
		}
	})
}
