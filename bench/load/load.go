// Package load asks an HTTP/1.1 server on this machine the same kind of
// question over many kept connections, checks every answer, and measures how
// long each took. It writes prepared bytes and reads answers itself, so that
// little of the shared processors goes into asking. What a question is, and
// whether an answer is right, belongs to the Workload; what the server costs,
// to package proc.
package load

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"net/http"
	"slices"
	"sync"
	"time"
)

// ErrAgain is what Answer returns when the same question must be asked anew
// with what was just learned, such as a DPoP nonce. It is not counted, neither
// as an answer nor as a fault, and not twice in a row.
var ErrAgain = errors.New("ask again")

// answerLimit bounds the wait for one answer: a server that stalls is a
// failure, not a slow one.
const answerLimit = 15 * time.Second

// Workload makes the exchanges of one kind of question.
type Workload interface {
	// Open returns what one of so many connections asks, which are opened one
	// after the other, from 0. It MUST be usable beside the others.
	Open(ctx context.Context, connection, connections int) (Exchange, error)
}

// Exchange is what one connection asks, one question after the other.
type Exchange interface {
	// Question returns a whole HTTP/1.1 request, or io.EOF when there is
	// nothing more to ask. The bytes are not kept.
	Question() ([]byte, error)
	// Answer checks an answer; any error but ErrAgain ends the run. The body
	// is not kept.
	Answer(status int, header http.Header, body []byte) error
}

// Result is what a run measured.
type Result struct {
	Requests  int
	Elapsed   time.Duration
	Latencies []time.Duration // sorted
}

// Add joins the result of another run of the same workload.
func (r *Result) Add(o Result) {
	r.Requests += o.Requests
	r.Elapsed += o.Elapsed
	r.Latencies = append(r.Latencies, o.Latencies...)
	slices.Sort(r.Latencies)
}

// PerSecond is the rate of answers.
func (r Result) PerSecond() float64 {
	if r.Elapsed <= 0 {
		return 0
	}
	return float64(r.Requests) / r.Elapsed.Seconds()
}

// Quantile returns the latency that a share q of the answers did not exceed.
func (r Result) Quantile(q float64) time.Duration {
	if len(r.Latencies) == 0 {
		return 0
	}
	return r.Latencies[min(int(q*float64(len(r.Latencies))), len(r.Latencies)-1)]
}

// Session is a workload with its connections open: what a run needs is
// prepared, and nothing is measured yet.
type Session struct{ conns []*connection }

// Open connects to addr, a host and port of this machine, and lets the
// workload prepare each connection.
func Open(ctx context.Context, w Workload, addr string, connections int) (*Session, error) {
	if err := local(addr); err != nil {
		return nil, err
	}
	s := &Session{}
	for i := range connections {
		x, err := w.Open(ctx, i, connections)
		if err != nil {
			s.Close()
			return nil, fmt.Errorf("prepare connection %d: %w", i, err)
		}
		c, err := net.Dial("tcp", addr)
		if err != nil {
			s.Close()
			return nil, err
		}
		s.conns = append(s.conns, &connection{Exchange: x, conn: c, reader: bufio.NewReaderSize(c, 16<<10)})
	}
	return s, nil
}

// Close closes the connections.
func (s *Session) Close() {
	for _, c := range s.conns {
		c.conn.Close()
	}
}

// Run asks on all connections until the time is up, until requests (0: no
// limit) are answered, or until there is nothing more to ask, and returns what
// it measured, or the first fault.
func (s *Session) Run(ctx context.Context, limit time.Duration, requests int) (Result, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	share := 0
	if requests > 0 {
		share = max(1, requests/len(s.conns))
	}
	start := time.Now()
	var wg sync.WaitGroup
	faults := make([]error, len(s.conns))
	for i, c := range s.conns {
		c.latencies = nil
		wg.Go(func() {
			if faults[i] = c.run(ctx, start.Add(limit), share); faults[i] != nil {
				cancel()
			}
		})
	}
	wg.Wait()
	result := Result{Elapsed: time.Since(start)}
	stopped := ctx.Err()
	for i, c := range s.conns {
		if faults[i] != nil && !errors.Is(faults[i], context.Canceled) {
			return Result{}, fmt.Errorf("connection %d, answer %d: %w", i, len(c.latencies)+1, faults[i])
		}
		result.Requests += len(c.latencies)
		result.Latencies = append(result.Latencies, c.latencies...)
	}
	if stopped != nil {
		return Result{}, stopped
	}
	slices.Sort(result.Latencies)
	return result, nil
}

// local refuses to load any other machine.
func local(addr string) error {
	host, _, err := net.SplitHostPort(addr)
	if err != nil {
		return err
	}
	if ip := net.ParseIP(host); host != "localhost" && (ip == nil || !ip.IsLoopback()) {
		return fmt.Errorf("%s is not this machine", addr)
	}
	return nil
}

type connection struct {
	Exchange
	conn      net.Conn
	reader    *bufio.Reader
	latencies []time.Duration
}

func (c *connection) run(ctx context.Context, end time.Time, share int) error {
	again := false
	for (share == 0 || len(c.latencies) < share) && time.Now().Before(end) {
		if err := ctx.Err(); err != nil {
			return err
		}
		question, err := c.Question()
		if errors.Is(err, io.EOF) {
			return nil
		}
		if err != nil {
			return err
		}
		took, err := c.ask(question)
		switch {
		case err == nil:
			c.latencies = append(c.latencies, took)
			again = false
		case errors.Is(err, ErrAgain) && !again:
			again = true
		default:
			return err
		}
	}
	return nil
}

// ask sends one question and has its answer checked.
func (c *connection) ask(question []byte) (took time.Duration, err error) {
	start := time.Now()
	if err := c.conn.SetDeadline(start.Add(answerLimit)); err != nil {
		return 0, err
	}
	if _, err := c.conn.Write(question); err != nil {
		return 0, err
	}
	response, err := http.ReadResponse(c.reader, nil)
	if err != nil {
		return 0, err
	}
	body, err := io.ReadAll(response.Body)
	response.Body.Close()
	if err != nil {
		return 0, err
	}
	took = time.Since(start)
	if response.Close {
		return 0, errors.New("the server closes a connection that it should keep")
	}
	return took, c.Answer(response.StatusCode, response.Header, body)
}
