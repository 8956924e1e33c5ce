// Package ladder walks the risk ladder of the default policies from outside: the
// whole server in this process behind a proxy that says where requests come from, a
// real Chromium, and the real command line. The server's clock is moved by hand: from the
// past until it is right, because the command line knows no other; or ahead, together with
// that of a command that was built with another clock and is the same in all else.
package ladder

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"fmt"
	"math/big"
	"net"
	"net/http"
	"net/http/httputil"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/maxmind/mmdbwriter"
	"github.com/maxmind/mmdbwriter/mmdbtype"

	countersign "github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/examples/notes"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/profile"
	"github.com/countersign-dev/countersign/internal/risk"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/pep"
	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
)

// openVariable makes this test's program a browser for the command line: it writes
// the address that it is given to the file named here.
const openVariable = "COUNTERSIGN_LADDER_OPENED"

// clockVariable says how far ahead the clock of the command line is, where it was built
// with clockFile.
const (
	clockVariable = "COUNTERSIGN_LADDER_AHEAD"
	clockFile     = `package main

import (
	"os"
	"time"
)

func (a *app) now() time.Time {
	ahead, err := time.ParseDuration(os.Getenv("` + clockVariable + `"))
	if err != nil {
		panic(err)
	}
	return time.Now().Add(ahead)
}
`
)

type tests func() int

func (f tests) Run() int { return f() }

func TestMain(m *testing.M) {
	if file := os.Getenv(openVariable); file != "" {
		if os.WriteFile(file+".new", []byte(os.Args[len(os.Args)-1]), 0o600) != nil || os.Rename(file+".new", file) != nil {
			os.Exit(1)
		}
		os.Exit(0)
	}
	os.Exit(program.Run(tests(func() int { return chrome.Run(m) })))
}

// Where requests come from.
const (
	home    = "198.51.100.7"
	next    = "198.51.101.7" // another network of the same country
	abroad  = "203.0.113.9"
	further = "192.0.2.9"
	away    = "198.18.7.9"
)

// deployment is a running server.
type deployment struct {
	t      *testing.T
	issuer string
	state  *server.State
	ahead  atomic.Int64
	from   atomic.Value // address that the proxy says requests come from
	bare   atomic.Bool  // the browser lost what tells its device: the cookie is gone
	client string       // the command line
	ca     string       // file of the certificate that it trusts
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

func (d *deployment) now() time.Time { return time.Now().Add(time.Duration(d.ahead.Load())) }

func (d *deployment) pass(by time.Duration) { d.ahead.Add(int64(by)) }

// deploy starts a server whose clock is behind by so much; more is further configuration.
func deploy(t *testing.T, behind time.Duration, more ...string) *deployment {
	t.Helper()
	chrome.Require(t)
	d := &deployment{t: t, client: program.Build(t, "countersign")}
	d.ahead.Store(-int64(behind))
	d.from.Store(home)
	front, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	back, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	d.issuer = fmt.Sprintf("https://localhost:%d", front.Addr().(*net.TCPAddr).Port)
	dir := t.TempDir()
	made := certificate()
	check(t, made.err)
	d.ca = filepath.Join(dir, "ca.pem")
	check(t, os.WriteFile(d.ca, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: made.Leaf.Raw}), 0o600))
	cfg, err := config.Parse(fmt.Appendf(nil, `issuer: %s
listen: {address: "%s"}
database: {sqlite: %s}
data_dir: %s
keys: {kek_file: %s}
proxy: {trusted: [127.0.0.1], header: X-Forwarded-For}
risk: {places_file: %s}
%s`, d.issuer, back.Addr(), filepath.Join(dir, "db"), dir, filepath.Join(dir, "kek"), atlas(t, dir), strings.Join(more, "")), nil)
	check(t, err)
	d.state, err = server.OpenState(t.Context(), cfg, server.Options{Migrate: true, Now: d.now})
	check(t, err)
	s, err := server.New(d.state)
	check(t, err)
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, server.Listeners{Public: back}) }()
	proxy := &http.Server{Handler: d.proxy(back.Addr().String()), TLSConfig: &tls.Config{Certificates: []tls.Certificate{made.Certificate}}}
	go func() { _ = proxy.ServeTLS(front, "", "") }()
	t.Cleanup(func() {
		check(t, proxy.Close())
		stop()
		check(t, <-ended)
		check(t, d.state.Close())
	})
	return d
}

// pair is a certificate, or why there is none.
type pair struct {
	tls.Certificate
	err error
}

// certificate is the proxy's, once for this process: the browser trusts it from its
// start on.
var certificate = sync.OnceValue(func() (p pair) {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		return pair{err: err}
	}
	c := &x509.Certificate{
		SerialNumber: big.NewInt(1), NotBefore: time.Now().Add(-24 * time.Hour), NotAfter: time.Now().Add(24 * time.Hour),
		DNSNames: []string{"localhost"}, IsCA: true, BasicConstraintsValid: true,
	}
	der, err := x509.CreateCertificate(rand.Reader, c, c, key.Public(), key)
	if err != nil {
		return pair{err: err}
	}
	p.Certificate = tls.Certificate{Certificate: [][]byte{der}, PrivateKey: key}
	if p.Leaf, p.err = x509.ParseCertificate(der); p.err == nil {
		chrome.Trust(p.Leaf)
	}
	return p
})

// proxy says where requests come from, and loses the cookie of a browser that has
// lost it.
func (d *deployment) proxy(to string) http.Handler {
	return &httputil.ReverseProxy{Rewrite: func(p *httputil.ProxyRequest) {
		p.SetURL(&url.URL{Scheme: "http", Host: to})
		r := p.Out
		r.Host = p.In.Host
		r.Header.Set("X-Forwarded-For", d.from.Load().(string)) // nobody says it twice
		if !d.bare.Load() {
			return
		}
		kept := r.Cookies()
		r.Header.Del("Cookie")
		for _, c := range kept {
			if !strings.HasSuffix(c.Name, "cs_device") {
				r.AddCookie(c)
			}
		}
	}}
}

// atlas is a file of the places of networks.
func atlas(t *testing.T, dir string) string {
	t.Helper()
	w, err := mmdbwriter.New(mmdbwriter.Options{DatabaseType: "Test-Country", IncludeReservedNetworks: true})
	check(t, err)
	for prefix, country := range map[string]string{home: "NO", next: "NO", abroad: "BR", further: "JP", away: "NZ"} {
		_, n, err := net.ParseCIDR(prefix + "/24")
		check(t, err)
		check(t, w.Insert(n, mmdbtype.Map{"country": mmdbtype.Map{"iso_code": mmdbtype.String(country)}}))
	}
	path := filepath.Join(dir, "places.mmdb")
	f, err := os.Create(path)
	check(t, err)
	_, err = w.WriteTo(f)
	check(t, err)
	check(t, f.Close())
	return path
}

// accustomed gives somebody nine days of the same habits: the network at home and the
// browser that they are signed in with.
func (d *deployment) accustomed(username string) {
	d.t.Helper()
	ctx := d.t.Context()
	p, err := d.state.Store.PersonByUsername(ctx, username)
	check(d.t, err)
	sessions, err := d.state.Store.SessionsOf(ctx, p.ID)
	check(d.t, err)
	var h risk.History
	for i := range 40 {
		h.Learn(risk.Event{
			At: d.now().Add(time.Duration(i-40) * 6 * time.Hour), Did: risk.SignIn, Network: "198.51.100.0/24", Place: risk.Place{Country: "NO"}, Device: sessions[0].Device,
			Things: []string{string(policy.SessionOpen), string(policy.PersonRead), string(policy.Authorize)},
		}, true)
	}
	b, err := h.MarshalBinary()
	check(d.t, err)
	_, err = d.state.Do.Do(ctx, act.Intent{
		Action: policy.SandboxSeed, Kind: audit.SessionSeen, Refs: act.Refs{Kind: policy.KindSystem},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{Changes: []act.Change{profile.Keep{Actor: p.ID, State: b}}}, nil
		},
	})
	check(d.t, err)
	d.pass(time.Minute) // what another process kept is read after half of that
}

// asked gives what the last step-up that was asked of somebody needed, and by which
// policies.
func (d *deployment) asked() (needs, policies string) {
	d.t.Helper()
	rows, _, err := d.state.Store.AuditPage(d.t.Context(), filter(audit.StepUpAsked), 1)
	check(d.t, err)
	if len(rows) == 0 {
		d.t.Fatal("nothing was asked for")
	}
	l, err := audit.Read(d.t.Context(), rows[0].Row, rows[0].Seq, d.state.Names, nil)
	check(d.t, err)
	return l.Needs, strings.Join(l.Reasons, " ")
}

// sample serves the sample API as the sandbox does, with a clock of its own, and so
// without the feed, whose frames would be old by it. It holds its policies, and gives its
// address.
func (d *deployment) sample(ahead *atomic.Int64) string {
	d.t.Helper()
	ctx := d.t.Context()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	check(d.t, err)
	api := fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port)
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(d.t, err)
	check(d.t, d.state.SeedSandbox(ctx, server.Sample{URI: api, Key: key.Public(), Schema: notes.Schema(api), Policies: notes.Policies}))
	roots := x509.NewCertPool()
	roots.AddCert(certificate().Leaf)
	v, err := countersign.New(ctx, countersign.Config{
		Issuer: d.issuer, Audience: api, Client: countersign.ClientAuth{ID: server.SampleAPIClient, Key: key}, Policies: pep.Engine(),
		NoFeed: true, Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		HTTP: &http.Client{Transport: &http.Transport{TLSClientConfig: &tls.Config{RootCAs: roots}}, Timeout: 10 * time.Second},
	})
	check(d.t, err)
	for end := time.Now().Add(time.Minute); !v.PolicyStatus().Held; time.Sleep(5 * time.Millisecond) {
		if time.Now().After(end) {
			d.t.Fatalf("the API holds no policies: %+v", v.PolicyStatus())
		}
	}
	srv := &http.Server{Handler: notes.New().Handler(v)}
	go func() { _ = srv.Serve(l) }()
	d.t.Cleanup(func() {
		check(d.t, srv.Close())
		v.Close()
	})
	return api
}

// terminal is somebody's command line.
type terminal struct {
	*deployment
	home string
}

func (d *deployment) terminal() *terminal { return &terminal{d, d.t.TempDir()} }

func (c *terminal) env(more ...string) []string {
	without := []string{"COUNTERSIGN_", "XDG_", "BROWSER=", "SSH_", "CI=", "HOME=", "DISPLAY="}
	return program.Environment(without, append([]string{clockVariable + "=" + time.Duration(c.ahead.Load()).String(), "HOME=" + c.home, "COUNTERSIGN_INTERACTIVE=1", "NO_COLOR=1", "SSL_CERT_FILE=" + c.ca}, more...)...)
}

// run runs a command that opens no browser.
func (c *terminal) run(args ...string) program.Result {
	c.t.Helper()
	r, err := program.Exec(c.t.Context(), c.env("COUNTERSIGN_BROWSER=nothing"), c.client, args...)
	check(c.t, err)
	return r
}

// asks runs a command that opens a browser; it gives the address, and what comes of
// the command, which ends with ctx.
func (c *terminal) asks(ctx context.Context, args ...string) (address string, done chan program.Result) {
	c.t.Helper()
	self, err := os.Executable()
	check(c.t, err)
	file := filepath.Join(c.t.TempDir(), "opened")
	done = make(chan program.Result, 1)
	go func() {
		r, err := program.Exec(ctx, c.env("COUNTERSIGN_BROWSER="+self, openVariable+"="+file), c.client, args...)
		if err != nil {
			r.Stderr += err.Error()
		}
		done <- r
	}()
	for end := time.Now().Add(2 * time.Minute); time.Now().Before(end); time.Sleep(20 * time.Millisecond) {
		if b, err := os.ReadFile(file); err == nil {
			return string(b), done
		}
		select {
		case r := <-done:
			c.t.Fatalf("countersign %s: %+v", strings.Join(args, " "), r)
		default:
		}
	}
	c.t.Fatalf("countersign %s opens no browser", strings.Join(args, " "))
	return "", nil
}
