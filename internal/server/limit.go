package server

import (
	"bytes"
	"io"
	"log/slog"
	"net/http"
	"time"

	"github.com/countersign-dev/countersign/internal/admin"
	"github.com/countersign-dev/countersign/internal/web"
)

// The places there are. Beyond them the answer is an early refusal, so that those
// admitted stay fast (security: saturation).
const (
	maxRequests = 512  // being worked on
	maxReading  = 2048 // whose body is still on its way
	// Streams of the feed wait and do not work. They have an end all the same,
	// because whoever has no token yet asks for one too.
	maxStreams = 4096
)

// readTime is how long a request's body may take to arrive.
const readTime = 10 * time.Second

// limit refuses early what cannot be served soon. A place to be worked on is
// taken only by a request that is here as a whole: one that trickles in holds
// nobody up.
func (s *Server) limit(next http.Handler) http.Handler {
	working, reading, streams := make(chan struct{}, maxRequests), make(chan struct{}, maxReading), make(chan struct{}, maxStreams)
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if r.Body != nil && r.Body != http.NoBody {
			if !take(reading) {
				saturated(w, r)
				return
			}
			readAhead(w, r)
			<-reading
		}
		places := working
		if r.URL.Path == "/v1/revocations/stream" {
			places = streams
		}
		if !take(places) {
			saturated(w, r)
			return
		}
		defer func() { <-places }()
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

func saturated(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Retry-After", "1")
	web.RecordOf(r).Add(slog.String("error", "saturated"))
	http.Error(w, "The server is busy. Try again in a second.", http.StatusServiceUnavailable)
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
