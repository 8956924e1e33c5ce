package web

import (
	"context"
	"crypto/rand"
	"fmt"
	"log/slog"
	"net/http"
	"net/netip"
	"runtime/debug"
	"sync"
	"time"
)

// RefHeader carries the request's reference in every answer.
const RefHeader = "Countersign-Ref"

// Record is what becomes known about a request on its way: one line in the
// log at its end.
type Record struct {
	ref    string
	client netip.Addr

	mu    sync.Mutex
	attrs []slog.Attr
}

// Ref is the request's reference: six upper-case hexadecimal digits, for
// people to quote. It finds a line in the log; it is no secret and not unique
// for ever.
func (rec *Record) Ref() string { return rec.ref }

// Add puts attributes into the line. Never a secret.
func (rec *Record) Add(attrs ...slog.Attr) {
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rec.attrs = append(rec.attrs, attrs...)
}

type recordKey struct{}

// RecordOf gives the request's record; one that goes nowhere if the request
// did not come through a Recorder.
func RecordOf(r *http.Request) *Record {
	if rec, ok := r.Context().Value(recordKey{}).(*Record); ok {
		return rec
	}
	return &Record{ref: "000000"}
}

// RefOf is the reference of the request that a context belongs to, "" if it
// belongs to none.
func RefOf(ctx context.Context) string {
	if rec, ok := ctx.Value(recordKey{}).(*Record); ok {
		return rec.ref
	}
	return ""
}

// ClientAddr is the client's address; not valid means unknown (mechanisms I20).
func ClientAddr(r *http.Request) netip.Addr { return RecordOf(r).client }

// Recorder gives each request a record and logs it at its end.
type Recorder struct {
	Log     *slog.Logger
	Proxies *Proxies // nil: no hop is trusted
}

// Wrap puts the recorder before a handler. A panic is logged with its stack
// and answered 500, if nothing was written yet.
func (rc Recorder) Wrap(next http.Handler) http.Handler {
	return http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		start := time.Now()
		rec := &Record{ref: newRef(), client: rc.Proxies.client(r)}
		w.Header().Set(RefHeader, rec.ref)
		sw := &statusWriter{ResponseWriter: w}
		r = r.WithContext(context.WithValue(r.Context(), recordKey{}, rec))
		defer func() {
			level := slog.LevelInfo
			p := recover()
			if p != nil && p != http.ErrAbortHandler {
				rec.Add(slog.String("panic", fmt.Sprint(p)), slog.String("stack", string(debug.Stack())))
				if sw.status == 0 {
					http.Error(sw, "Something went wrong. Reference "+rec.ref, http.StatusInternalServerError)
				}
			}
			if sw.status == 0 {
				sw.status = http.StatusOK
			}
			if sw.status >= 500 {
				level = slog.LevelError
			}
			rc.log(r, rec, sw, level, time.Since(start))
			if p == http.ErrAbortHandler {
				panic(p)
			}
		}()
		next.ServeHTTP(sw, r)
	})
}

// log writes the line. Of the URL it tells only the pattern that matched: a
// path or query may hold what only its owner should have.
func (rc Recorder) log(r *http.Request, rec *Record, sw *statusWriter, level slog.Level, took time.Duration) {
	client := "unknown"
	if rec.client.IsValid() {
		client = rec.client.String()
	}
	rec.mu.Lock()
	defer rec.mu.Unlock()
	rc.Log.LogAttrs(r.Context(), level, "request", append([]slog.Attr{
		slog.String("ref", rec.ref), slog.String("method", r.Method), slog.String("route", r.Pattern),
		slog.Int("status", sw.status), slog.Int64("bytes", sw.bytes), slog.Duration("took", took), slog.String("client", client),
	}, rec.attrs...)...)
}

func newRef() string {
	var b [3]byte
	rand.Read(b[:])
	return fmt.Sprintf("%06X", b[:])
}

// statusWriter remembers what was answered.
type statusWriter struct {
	http.ResponseWriter
	status int
	bytes  int64
}

func (w *statusWriter) WriteHeader(status int) {
	if w.status == 0 && status >= 200 { // 1xx are not the answer
		w.status = status
	}
	w.ResponseWriter.WriteHeader(status)
}

func (w *statusWriter) Write(b []byte) (int, error) {
	if w.status == 0 {
		w.status = http.StatusOK
	}
	n, err := w.ResponseWriter.Write(b)
	w.bytes += int64(n)
	return n, err
}

// Unwrap lets http.ResponseController reach the connection (streams).
func (w *statusWriter) Unwrap() http.ResponseWriter { return w.ResponseWriter }
