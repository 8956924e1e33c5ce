package load

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync/atomic"
	"testing"
	"time"
)

// counter asks for the next number and expects it back.
type counter struct{ n, again, last int }

func (c *counter) Question() ([]byte, error) {
	if c.last > 0 && c.n == c.last {
		return nil, io.EOF
	}
	return fmt.Appendf(nil, "GET /?n=%d HTTP/1.1\r\nHost: x\r\n\r\n", c.n), nil
}

func (c *counter) Answer(status int, header http.Header, body []byte) error {
	if status == http.StatusUnauthorized {
		c.again++
		return ErrAgain
	}
	if string(body) != fmt.Sprint(c.n) {
		return fmt.Errorf("got %d %q, want %d", status, body, c.n)
	}
	c.n++
	return nil
}

type counters struct {
	opened atomic.Int64
	last   int // 0: no end
}

func (c *counters) Open(context.Context, int, int) (Exchange, error) {
	c.opened.Add(1)
	return &counter{last: c.last}, nil
}

func serve(t *testing.T, h http.HandlerFunc) (addr string) {
	t.Helper()
	srv := httptest.NewServer(h)
	t.Cleanup(srv.Close)
	return strings.TrimPrefix(srv.URL, "http://")
}

// run opens a session and runs it once.
func run(ctx context.Context, w Workload, addr string, connections int, limit time.Duration, requests int) (Result, error) {
	s, err := Open(ctx, w, addr, connections)
	if err != nil {
		return Result{}, err
	}
	defer s.Close()
	return s.Run(ctx, limit, requests)
}

func TestRunCountsAndChecks(t *testing.T) {
	var asked atomic.Int64
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) {
		if asked.Add(1) == 3 {
			w.WriteHeader(http.StatusUnauthorized)
			return
		}
		fmt.Fprint(w, r.FormValue("n"))
	})
	w := &counters{}
	r, err := run(t.Context(), w, addr, 4, time.Minute, 40)
	if err != nil {
		t.Fatal(err)
	}
	if r.Requests != 40 || asked.Load() != 41 || w.opened.Load() != 4 {
		t.Errorf("%d answers of %d questions over %d connections, want 40, 41, 4", r.Requests, asked.Load(), w.opened.Load())
	}
	if len(r.Latencies) != 40 || r.Quantile(0.5) <= 0 || r.Quantile(0.5) > r.Quantile(0.99) || r.PerSecond() <= 0 {
		t.Errorf("latencies %d, p50 %s, p99 %s", len(r.Latencies), r.Quantile(0.5), r.Quantile(0.99))
	}
}

func TestSessionGoesOnWhereItWas(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.FormValue("n")) })
	s, err := Open(t.Context(), &counters{last: 15}, addr, 2)
	if err != nil {
		t.Fatal(err)
	}
	defer s.Close()
	var sum Result
	for _, want := range []int{20, 10, 0} { // 2 × 10, then what is left of 2 × 15
		r, err := s.Run(t.Context(), time.Minute, 20)
		if err != nil || r.Requests != want {
			t.Errorf("%d answers, %v, want %d", r.Requests, err, want)
		}
		sum.Add(r)
	}
	if sum.Requests != 30 || len(sum.Latencies) != 30 {
		t.Errorf("the sum is %d answers, %d latencies", sum.Requests, len(sum.Latencies))
	}
}

func TestRunEndsAtTheFirstWrongAnswer(t *testing.T) {
	for name, h := range map[string]http.HandlerFunc{
		"wrong":        func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, "7") },
		"always again": func(w http.ResponseWriter, r *http.Request) { w.WriteHeader(http.StatusUnauthorized) },
		"not kept alive": func(w http.ResponseWriter, r *http.Request) {
			w.Header().Set("Connection", "close")
			fmt.Fprint(w, "0")
		},
	} {
		if r, err := run(t.Context(), &counters{}, serve(t, h), 2, time.Minute, 10); err == nil || r.Requests != 0 {
			t.Errorf("%s: result %+v, error %v", name, r, err)
		}
	}
}

func TestRunEndsInTimeAndOnThisMachine(t *testing.T) {
	addr := serve(t, func(w http.ResponseWriter, r *http.Request) { fmt.Fprint(w, r.FormValue("n")) })
	start := time.Now()
	r, err := run(t.Context(), &counters{}, addr, 2, 100*time.Millisecond, 0)
	if err != nil || r.Requests == 0 || time.Since(start) > time.Minute {
		t.Errorf("%d answers in %s: %v", r.Requests, time.Since(start), err)
	}
	if _, err := Open(t.Context(), &counters{}, "192.0.2.1:80", 1); err == nil {
		t.Error("another machine is loaded")
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := run(ctx, &counters{}, addr, 1, time.Minute, 0); !errors.Is(err, context.Canceled) {
		t.Errorf("a cancelled run returns %v", err)
	}
}
