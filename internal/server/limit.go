package server

import (
	"bytes"
	"context"
	"io"
	"log/slog"
	"net/http"
	"net/netip"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/oauth"
	"github.com/countersign-dev/countersign/internal/web"
)

// The places there are. Beyond them the answer is an early refusal, so that those
// admitted stay fast (security: saturation). Requests of one lane never wait for
// those of another.
const (
	apiPlaces  = 64   // token, introspection, revocation, the management API: being worked on
	pagePlaces = 16   // what browsers ask for, signing in with its slow hashes among it
	logPlaces  = 16   // the published log, which anybody may read as slowly as they like
	maxQueue   = 448  // waiting for a place of a lane
	maxReading = 2048 // whose body is still on its way, see reading
	// Streams of the feed wait and do not work. They have an end all the same,
	// because whoever has no token yet asks for one too.
	maxStreams = 4096
)

// A queue may be as long as it likes for a moment: many who come at once are
// served. One that has been standing for a while does not get shorter by waiting,
// and then nobody is let in who would wait for longer than maxWait.
const (
	longQueue = 500 * time.Millisecond
	maxWait   = 100 * time.Millisecond
)

// How long a request's body may take to arrive, and its answer to be taken: a
// place is not held by who does not read.
const (
	readTime  = 10 * time.Second
	writeTime = 30 * time.Second
)

// lane is a number of places and the queue before them.
type lane struct {
	places  chan struct{}
	waiting atomic.Int64
	since   atomic.Int64 // when the queue was last empty, ns since began
	mean    atomic.Int64 // how long a place was held lately, ns
	refused atomic.Int64
	began   time.Time
}

func newLane(places int) *lane { return &lane{places: make(chan struct{}, places), began: time.Now()} }

// full reports whether a request that comes now would wait too long.
func (l *lane) full() bool {
	n := l.waiting.Load()
	switch {
	case n == 0:
		return false
	case n >= maxQueue:
		return true
	case time.Since(l.began)-time.Duration(l.since.Load()) < longQueue:
		return false
	}
	return time.Duration((n+1)*l.mean.Load()/int64(cap(l.places))) > maxWait
}

// enter waits for a place. leave gives it back; nil if there is none, because the
// queue is too long or whoever asked has gone.
func (l *lane) enter(ctx context.Context) (leave func()) {
	select {
	case l.places <- struct{}{}:
	default:
		if l.full() {
			return nil
		}
		if l.waiting.Add(1) == 1 {
			l.since.Store(int64(time.Since(l.began)))
		}
		defer l.waiting.Add(-1)
		select {
		case l.places <- struct{}{}:
		case <-ctx.Done():
			return nil
		}
	}
	began := time.Now()
	return func() {
		// A moving mean over the last sixteen or so; that two may overwrite each
		// other does not matter.
		mean := l.mean.Load()
		l.mean.Store(mean + (int64(time.Since(began))-mean)/16)
		<-l.places
	}
}

// limit refuses early what cannot be served soon. A place to be worked on is
// taken only by a request that is here as a whole: one that trickles in holds
// nobody up.
func (s *Server) limit(next http.Handler) http.Handler {
	l := s.lanes
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			done := l.reading.enter(senderOf(r))
			if done == nil {
				saturated(w, r)
				return
			}
			readAhead(w, r)
			done()
		}
		if r.URL.Path == streamPath {
			if !take(l.streams) {
				saturated(w, r)
				return
			}
			defer func() { <-l.streams }()
			next.ServeHTTP(w, r)
			return
		}
		conn := http.NewResponseController(w)
		_ = conn.SetWriteDeadline(time.Now().Add(writeTime))      // not every writer can
		defer func() { _ = conn.SetWriteDeadline(time.Time{}) }() // the connection may carry a stream next
		if free(r) {
			next.ServeHTTP(w, r)
			return
		}
		leave := l.of(r.URL.Path).enter(r.Context())
		if leave == nil {
			l.of(r.URL.Path).refused.Add(1)
			saturated(w, r)
			return
		}
		leave = sync.OnceFunc(leave)
		defer leave()
		a := &answer{ResponseWriter: w}
		next.ServeHTTP(a, r)
		leave()
		_ = a.end() // whoever has gone needs none
	})
}

// maxHeld is how much of an answer is held back until its place is given up, in
// bytes: every page and every token, and not an export.
const maxHeld = 256 << 10

// answer is written to who asked after the place was given up: a place is for work,
// and whoever reads slowly, or not at all, keeps nobody from being served.
type answer struct {
	http.ResponseWriter
	status int
	body   []byte
	sent   bool
}

// WriteHeader implements http.ResponseWriter.
func (a *answer) WriteHeader(status int) {
	switch {
	case a.sent || status < 200:
		a.ResponseWriter.WriteHeader(status)
	case a.status == 0:
		a.status = status
	}
}

// Write implements http.ResponseWriter.
func (a *answer) Write(b []byte) (int, error) {
	if a.status == 0 {
		a.status = http.StatusOK
	}
	if !a.sent && len(a.body)+len(b) <= maxHeld {
		a.body = append(a.body, b...)
		return len(b), nil
	}
	if err := a.send(); err != nil {
		return 0, err
	}
	return a.ResponseWriter.Write(b)
}

// send writes what was held back.
func (a *answer) send() (err error) {
	if a.sent {
		return nil
	}
	if a.sent = true; a.status != 0 {
		a.ResponseWriter.WriteHeader(a.status)
	}
	if len(a.body) > 0 {
		_, err = a.ResponseWriter.Write(a.body)
		a.body = nil
	}
	return err
}

// end writes what was held back when nothing more comes. How long it is is known
// then, so that it is not sent in chunks.
func (a *answer) end() error {
	if h := a.Header(); !a.sent && len(a.body) > 0 && h["Content-Length"] == nil {
		h["Content-Length"] = []string{strconv.Itoa(len(a.body))}
	}
	return a.send()
}

// FlushError is for http.ResponseController.
func (a *answer) FlushError() error {
	if err := a.send(); err != nil {
		return err
	}
	return http.NewResponseController(a.ResponseWriter).Flush()
}

// Unwrap is for http.ResponseController.
func (a *answer) Unwrap() http.ResponseWriter { return a.ResponseWriter }

// streamPath is where the feed is streamed.
const streamPath = "/v1/revocations/stream"

// lanes are the places of a server.
type lanes struct {
	api, pages, log *lane
	reading         *reading
	streams         chan struct{}
}

func newLanes() *lanes {
	return &lanes{newLane(apiPlaces), newLane(pagePlaces), newLane(logPlaces), newReading(maxReading), make(chan struct{}, maxStreams)}
}

// reading are the places of those whose body is on its way. No network has more than
// half as many as are free: one alone gets a third of all, and however many of them
// send slowly, the next to come finds places, until there are thousands of networks.
// It is safe for concurrent use.
type reading struct {
	mu   sync.Mutex
	free int
	held map[string]int // by network; none is 0
}

func newReading(places int) *reading { return &reading{free: places, held: map[string]int{}} }

// enter takes a place for a network. leave gives it back; nil if the network has its
// share.
func (p *reading) enter(network string) (leave func()) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.held[network] >= (p.free+1)/2 {
		return nil
	}
	p.free--
	p.held[network]++
	return func() {
		p.mu.Lock()
		defer p.mu.Unlock()
		p.free++
		if p.held[network]--; p.held[network] == 0 {
			delete(p.held, network)
		}
	}
}

// senderOf is the network that a body comes from: that of the client, and where that
// is not known, that of the other end of the connection.
func senderOf(r *http.Request) string {
	a := web.ClientAddr(r)
	if !a.IsValid() {
		if peer, err := netip.ParseAddrPort(r.RemoteAddr); err == nil {
			a = peer.Addr()
		}
	}
	return grant.NetworkOf(a)
}

// of is the lane of a path.
func (l *lanes) of(path string) *lane {
	switch {
	case strings.HasPrefix(path, "/log/"):
		return l.log
	case isAPI(path):
		return l.api
	}
	return l.pages
}

// free are requests that cost no more than a refusal: documents that are ready, and what a
// browser asks before it calls, without whose answer it would not show its client a refusal.
func free(r *http.Request) bool {
	path := r.URL.Path
	return r.Method == http.MethodOptions && oauth.Shared(path) || strings.HasPrefix(path, "/.well-known/") || path == "/oauth/jwks" || path == "/v1/openapi.json" || strings.HasPrefix(path, "/static/")
}

// shed is the first part of limit, before anything is done for a request: while
// its lane is full it is refused by a few instructions, and without a line of its
// own in the log. What is left of the processors is for those who were let in.
func (s *Server) shed(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if l := s.lanes.of(r.URL.Path); l.full() && r.URL.Path != streamPath && !free(r) {
			l.refused.Add(1)
			saturated(w, r)
			return
		}
		next.ServeHTTP(w, r)
	})
}

func take(places chan struct{}) bool {
	select {
	case places <- struct{}{}:
		return true
	default:
		return false
	}
}

// What is said to whoever is refused.
const (
	busyJSON   = `{"error":"temporarily_unavailable","error_description":"The server is busy. Nothing was changed. Try again in a second."}` + "\n"
	busyText   = "The server is busy. Nothing was changed. Try again in a second.\n"
	busyAccess = "temporarily_unavailable: The server is busy. Try again in a second." // as AuthZEN has errors
)

var (
	retryAfter = []string{"1"}
	noStore    = []string{"no-store"}
	typeJSON   = []string{"application/json"}
	typeText   = []string{"text/plain; charset=utf-8"}
	noSniff    = []string{"nosniff"}
	anyOrigin  = []string{"*"}
	exposed    = []string{"Retry-After"}
)

func saturated(w http.ResponseWriter, r *http.Request) {
	h, text := w.Header(), busyText
	h["Retry-After"], h["Cache-Control"], h["Content-Type"], h["X-Content-Type-Options"] = retryAfter, noStore, typeText, noSniff
	if oauth.Shared(r.URL.Path) { // a client in a browser would not see it otherwise
		h["Access-Control-Allow-Origin"], h["Access-Control-Expose-Headers"] = anyOrigin, exposed
	}
	switch {
	case strings.HasPrefix(r.URL.Path, "/access/"):
		text = busyAccess
	case isAPI(r.URL.Path):
		h["Content-Type"], text = typeJSON, busyJSON
	}
	w.WriteHeader(http.StatusServiceUnavailable)
	_, _ = io.WriteString(w, text) // whoever has gone hears nothing
}

// tellRefused says in the log how many were refused, at most once in ten seconds.
func (s *Server) tellRefused(ctx context.Context) {
	var told [3]int64
	every(ctx, 10*time.Second, func(context.Context) {
		now := [3]int64{s.lanes.api.refused.Load(), s.lanes.pages.refused.Load(), s.lanes.log.refused.Load()}
		if now != told {
			s.log.Warn("more requests than can be served soon were refused",
				slog.Int64("api", now[0]-told[0]), slog.Int64("pages", now[1]-told[1]), slog.Int64("log", now[2]-told[2]))
		}
		told = now
	})
}

// readAhead reads the body, as far as any endpoint would. What went wrong with
// it is told to whoever reads it then.
func readAhead(w http.ResponseWriter, r *http.Request) {
	conn := http.NewResponseController(w)
	_ = conn.SetReadDeadline(time.Now().Add(readTime)) // not every writer can; the server's own limit holds then
	b, err := io.ReadAll(io.LimitReader(r.Body, admin.MaxBody+1))
	rest := io.Reader(r.Body)
	if err != nil {
		rest = failing{err}
	} else {
		_ = conn.SetReadDeadline(time.Time{})
	}
	r.Body = body{io.MultiReader(bytes.NewReader(b), rest), r.Body}
}

type body struct {
	io.Reader
	io.Closer
}

// failing is the end of a body that did not arrive.
type failing struct{ err error }

func (f failing) Read([]byte) (int, error) { return 0, f.err }
