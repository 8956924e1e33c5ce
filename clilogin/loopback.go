package clilogin

import (
	"context"
	"crypto/sha256"
	"crypto/subtle"
	"encoding/base64"
	"errors"
	"fmt"
	"html/template"
	"net"
	"net/http"
	"net/url"
	"os"
	"sync"
	"time"

	"github.com/countersign-dev/countersign/internal/problem"
)

// answer is what the browser brought back.
type answer struct {
	code string
	err  error
}

// loopback is the redirect target on this computer (RFC 8252 section 7.3). It
// takes one answer, holds the browser until the outcome is known, and shows it
// at an address that carries nothing.
type loopback struct {
	ln     net.Listener
	host   string // 127.0.0.1:port
	app    string
	issuer string
	state  string
	// issRequired: the server says that its answers carry iss (RFC 9207).
	issRequired bool

	server  *http.Server
	answers chan answer // of capacity one: the first answer with our state

	mu      sync.Mutex
	taken   bool
	outcome *outcome
	settled chan struct{} // closed with outcome
	shown   chan struct{} // closed when the outcome's page was fetched
	once    sync.Once
}

// outcome is what the last page says.
type outcome struct {
	OK    bool
	Title string
	Lines []string
}

// listen opens the target on a free port of 127.0.0.1.
func listen(app, issuer, state string, issRequired bool) (*loopback, error) {
	ln, err := net.Listen("tcp4", "127.0.0.1:0")
	if err != nil {
		return nil, fault(problem.Unavailable, "loopback_unavailable", "No port of 127.0.0.1 could be opened for the browser to come back to.").Because(err)
	}
	l := &loopback{
		ln: ln, host: ln.Addr().String(), app: app, issuer: issuer, state: state, issRequired: issRequired,
		answers: make(chan answer, 1), settled: make(chan struct{}), shown: make(chan struct{}),
	}
	l.server = &http.Server{
		Handler: http.HandlerFunc(l.serve), ReadHeaderTimeout: 10 * time.Second, MaxHeaderBytes: 32 << 10,
	}
	go func() { _ = l.server.Serve(ln) }()
	return l, nil
}

// redirectURI is what the authorization request names.
func (l *loopback) redirectURI() string { return "http://" + l.host + "/callback" }

// port is the port, for a person who forwards it.
func (l *loopback) port() int { return l.ln.Addr().(*net.TCPAddr).Port }

// wait waits for the browser.
func (l *loopback) wait(ctx context.Context) (string, error) {
	select {
	case a := <-l.answers:
		return a.code, a.err
	case <-ctx.Done():
		return "", ctx.Err()
	}
}

// settle tells the browser how it ended.
func (l *loopback) settle(o outcome) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.outcome == nil {
		l.outcome = &o
		close(l.settled)
	}
}

// close gives a waiting browser a moment to fetch the last page.
func (l *loopback) close() {
	l.mu.Lock()
	wait := l.taken && l.outcome != nil
	l.mu.Unlock()
	if wait {
		select {
		case <-l.shown:
		case <-time.After(5 * time.Second): // of a computer that is busy
		}
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Second)
	defer cancel()
	if l.server.Shutdown(ctx) != nil {
		_ = l.server.Close()
	}
}

func (l *loopback) serve(w http.ResponseWriter, r *http.Request) {
	h := w.Header()
	h.Set("Cache-Control", "no-store")
	h.Set("Referrer-Policy", "no-referrer")
	h.Set("X-Content-Type-Options", "nosniff")
	h.Set("Cross-Origin-Opener-Policy", "same-origin")
	h.Set("Content-Security-Policy", "default-src 'none'; style-src '"+styleHash+"'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'")
	// Any web page can make a browser ask 127.0.0.1 under a name of its own.
	if r.Host != l.host {
		http.Error(w, "This address is for "+l.host+" only.", http.StatusMisdirectedRequest)
		return
	}
	if r.Method != http.MethodGet {
		h.Set("Allow", "GET")
		http.Error(w, "Only GET.", http.StatusMethodNotAllowed)
		return
	}
	switch r.URL.Path {
	case "/callback":
		l.callback(w, r)
	case "/done":
		l.done(w)
	default:
		http.Error(w, "Nothing is here.", http.StatusNotFound)
	}
}

// callback takes the first answer that carries our state; one that does not
// changes nothing, because anybody on this computer can make one.
func (l *loopback) callback(w http.ResponseWriter, r *http.Request) {
	a, ok := l.read(r.URL.RawQuery)
	if !ok {
		l.page(w, http.StatusBadRequest, outcome{Title: "This isn't the sign-in your terminal is waiting for", Lines: []string{
			"Nothing happened. Go back to the page that your terminal opened, or run the command again.",
		}})
		return
	}
	l.mu.Lock()
	if !l.taken {
		l.taken = true
		l.answers <- a
	}
	l.mu.Unlock()
	select {
	case <-l.settled:
	case <-r.Context().Done():
		return
	}
	http.Redirect(w, r, "/done", http.StatusSeeOther)
}

// read checks an authorization response: no parameter twice, our state, and
// exactly our issuer (RFC 9207). ok is false if the state is not ours.
func (l *loopback) read(raw string) (a answer, ok bool) {
	q, err := url.ParseQuery(raw)
	if err != nil || subtle.ConstantTimeCompare([]byte(q.Get("state")), []byte(l.state)) != 1 || len(q["state"]) != 1 {
		return answer{}, false
	}
	for _, name := range []string{"code", "iss", "error", "error_description"} {
		if len(q[name]) > 1 {
			return answer{err: fault(problem.Invalid, "invalid_response", "The server's answer names "+name+" twice.")}, true
		}
	}
	if iss := q.Get("iss"); iss != l.issuer && (l.issRequired || q.Has("iss")) {
		return answer{err: fault(problem.Denied, "issuer_mismatch", "The answer came from another server than the one that was asked.")}, true
	}
	if code := q.Get("error"); code != "" {
		return answer{err: refusal(code, q.Get("error_description"))}, true
	}
	if q.Get("code") == "" {
		return answer{err: fault(problem.Invalid, "invalid_response", "The server's answer has no code.")}, true
	}
	return answer{code: q.Get("code")}, true
}

// refusal is an error answer of the authorization endpoint (RFC 6749 section
// 4.1.2.1, RFC 9470 section 4.1).
func refusal(code, description string) error {
	say := func(otherwise string) string {
		if description != "" {
			return description
		}
		return otherwise
	}
	switch code {
	case "access_denied":
		return fault(problem.Denied, CodeDenied, say("The request was declined."))
	case "unmet_authentication_requirements":
		return fault(problem.Denied, code, say("What is asked for cannot be shown with the ways to sign in of this account."))
	case "temporarily_unavailable", "server_error":
		return fault(problem.Unavailable, CodeUnreachable, say("The server could not answer."))
	}
	return fault(problem.Invalid, code, say("The server refused the request ("+code+")."))
}

func (l *loopback) done(w http.ResponseWriter) {
	l.mu.Lock()
	o := l.outcome
	l.mu.Unlock()
	if o == nil {
		http.Error(w, "Nothing is here yet.", http.StatusNotFound)
		return
	}
	l.page(w, http.StatusOK, *o)
	l.once.Do(func() { close(l.shown) })
}

// signedIn is the last page when it went well.
func signedIn(app, step string) outcome {
	o := outcome{OK: true, Title: "You're signed in to " + app + " on " + hostname()}
	if step != "" {
		o.Title, o.Lines = "Confirmed", []string{step}
	}
	o.Lines = append(o.Lines, "You can close this tab. Your terminal carries on.")
	return o
}

// notSignedIn is the last page when it did not.
func notSignedIn(app string, err error) outcome {
	o := outcome{Title: "You're not signed in to " + app, Lines: []string{
		"Your terminal was told, and says what to do next. You can close this tab.",
	}}
	cause := "Something went wrong in the terminal."
	if p := problem.From(err); p != nil && p.Detail != "" {
		cause = p.Detail
	} else if errors.Is(err, context.Canceled) {
		cause = "The command was stopped."
	}
	o.Lines = append([]string{cause}, o.Lines...)
	return o
}

func hostname() string {
	if name, err := os.Hostname(); err == nil && name != "" {
		return name
	}
	return "this computer"
}

func (l *loopback) page(w http.ResponseWriter, status int, o outcome) {
	w.Header().Set("Content-Type", "text/html; charset=utf-8")
	w.WriteHeader(status)
	_ = page.Execute(w, struct {
		outcome
		App    string
		Issuer string
	}{o, l.app, l.issuer})
}

// style is the page's own, in the colours of the server's pages.
const style = `:root{color-scheme:light dark;--bg:#f4f6f4;--surface:#fff;--text:#16201c;--muted:#44504a;--line:#d3dbd6;--accent:#0b5345;--danger:#8f1515}
@media (prefers-color-scheme:dark){:root{--bg:#0f1412;--surface:#181f1c;--text:#e8efeb;--muted:#b4c0ba;--line:#2f3a35;--accent:#86dcc2;--danger:#ffb3ac}}
*{box-sizing:border-box}body{margin:0;min-height:100vh;display:flex;background:var(--bg);color:var(--text);font:400 1rem/1.55 system-ui,-apple-system,"Segoe UI",Roboto,"Liberation Sans",sans-serif;overflow-wrap:anywhere}
main{width:100%;max-width:31rem;margin:auto;padding:1.25rem 1rem}
section{background:var(--surface);border:1px solid var(--line);border-radius:14px;padding:clamp(1.1rem,4.5vw,2rem)}
h1{font-size:1.55rem;font-weight:680;line-height:1.25;letter-spacing:-.015em;margin:0 0 .75rem;text-wrap:balance}
h1::before{content:"";display:block;width:2.2rem;height:.3rem;border-radius:.15rem;margin-bottom:1rem;background:var(--accent)}
.fault h1::before{background:var(--danger)}p{margin:0 0 .75rem}p:last-child{margin:0}.muted{color:var(--muted);font-size:.9rem}`

var styleHash = func() string {
	sum := sha256.Sum256([]byte(style))
	return "sha256-" + base64.StdEncoding.EncodeToString(sum[:])
}()

var page = template.Must(template.New("page").Parse(fmt.Sprintf(`<!doctype html>
<html lang="en"><head><meta charset="utf-8"><meta name="viewport" content="width=device-width, initial-scale=1">
<title>{{.Title}}</title><style>%s</style></head>
<body><main><section{{if not .OK}} class="fault"{{end}} role="{{if .OK}}status{{else}}alert{{end}}"><h1>{{.Title}}</h1>
{{range .Lines}}<p>{{.}}</p>
{{end}}<p class="muted">{{.App}} asked {{.Issuer}}</p></section></main></body></html>
`, style)))
