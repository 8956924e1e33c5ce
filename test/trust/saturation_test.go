//go:build linux

package trust

import (
	"bufio"
	"encoding/base64"
	"fmt"
	"io"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/bench/proc"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// TestSaturation offers five times what the server can do, without waiting for
// answers: it goes on doing nearly all that it can, those let in are answered
// soon, and the others are refused at once. Then people's pages are stormed so,
// while clients ask for tokens and introspection at a rate that the server could
// do: they notice nothing. The server has one core, who asks the other one.
func TestSaturation(t *testing.T) {
	t.Run("sqlite", func(t *testing.T) { saturation(t, "") })
	if full() {
		t.Run("postgres", func(t *testing.T) { saturation(t, pgtest.Start(t)) })
	}
}

func saturation(t *testing.T, dsn string) {
	w := newWorld(t, t.TempDir(), dsn, nil)
	w.text = strings.Replace(w.text, "level: debug", "level: info", 1)
	check(t, os.WriteFile(w.file, []byte(w.text), 0o600))
	pinned := ownCores(t, w)
	w.start()
	span := 500 * time.Millisecond
	if full() {
		span = 10 * time.Second
	}
	token := w.tokenRequest()
	a := newAsker(t, w.address)
	a.closed(token, many, span/4) // warm, and all connections are there
	var peak, storm outcome
	calm := w.cost(func() int { peak = a.closed(token, 64, span); return len(peak.ok) })
	stormed := w.cost(func() int { storm = a.open(5*peak.rate(), span, token); return len(storm.ok) })
	rss, err := proc.RSS(w.run.PID())
	check(t, err)
	report(t, "saturation ×5, "+engine(dsn), "%sat most %.0f tokens/s; of %.0f/s offered %.0f/s are given (%.0f %%), p50 %s, p99 %s; the others are refused with 503 and Retry-After, p50 %s, p99 %s; for each token the server's processor works %.2f times as long as without the others; %d MB of memory",
		pinned, peak.rate(), float64(storm.offered)/storm.span.Seconds(), storm.rate(), 100*storm.rate()/peak.rate(),
		short(percentile(storm.ok, 50)), short(percentile(storm.ok, 99)), short(percentile(storm.refused, 50)), short(percentile(storm.refused, 99)), stormed/calm, rss>>20)
	if storm.faults > 0 {
		t.Errorf("%d answers were neither a token nor an honest refusal: %s", storm.faults, storm.fault)
	}
	if len(storm.ok) == 0 {
		t.Error("nobody was given a token")
	}
	// So short a run, on a machine that does other things too, tells only that the
	// server stands and that what it says is honest.
	// Tokens are cheap and refusing them is not free: docs/trust.md says what that
	// leaves of the aim, nine tenths.
	if full() && (storm.rate() < 0.5*peak.rate() || percentile(storm.ok, 99) > 250*time.Millisecond || percentile(storm.refused, 99) > 20*time.Millisecond || rss > 256<<20) {
		t.Errorf("%.0f of %.0f tokens/s, p99 %s, refused p99 %s, %d MB", storm.rate(), peak.rate(), percentile(storm.ok, 99), percentile(storm.refused, 99), rss>>20)
	}
	w.pagesStormed(t, dsn, a, token, peak.rate(), span)
}

// pagesStormed storms what browsers ask for, with tokens asked for beside it.
func (w *world) pagesStormed(t *testing.T, dsn string, a *asker, token question, rate float64, span time.Duration) {
	signIn := w.pageRequest()
	pages := newAsker(t, w.address)
	most := pages.closed(signIn, 64, span/2)
	var wg sync.WaitGroup
	var calm, storm outcome
	wg.Go(func() { storm = pages.open(5*most.rate(), span, signIn) })
	calm = a.open(rate/5, span, token)
	wg.Wait()
	report(t, "sign-in stormed, "+engine(dsn), "%.0f requests/s for sign-in offered, five times what is possible; of %d tokens asked for meanwhile %d given, %d refused, p50 %s, p99 %s",
		float64(storm.offered)/storm.span.Seconds(), calm.offered, len(calm.ok), len(calm.refused), short(percentile(calm.ok, 50)), short(percentile(calm.ok, 99)))
	if calm.faults > 0 || storm.faults > 0 || full() && (len(calm.refused) > calm.offered/100 || percentile(calm.ok, 99) > 250*time.Millisecond) {
		t.Errorf("%d faults (%s%s), %d of %d refused, p99 %s", calm.faults+storm.faults, calm.fault, storm.fault, len(calm.refused), calm.offered, percentile(calm.ok, 99))
	}
}

// cost is how long the server's processor works, by the number that f gives.
func (w *world) cost(f func() int) float64 {
	before, err := proc.CPU(w.run.PID())
	check(w.t, err)
	n := f()
	after, err := proc.CPU(w.run.PID())
	check(w.t, err)
	return (after - before).Seconds() / float64(max(n, 1))
}

func short(d time.Duration) time.Duration { return d.Round(100 * time.Microsecond) }

// ownCores gives the server one core and this process another one, and says so.
func ownCores(t *testing.T, w *world) string {
	taskset, err := exec.LookPath("taskset")
	if err != nil {
		return ""
	}
	if exec.Command(taskset, "-c", "0", taskset, "-a", "-p", "-c", "1", strconv.Itoa(os.Getpid())).Run() != nil {
		return "" // not both cores are ours
	}
	t.Cleanup(func() { _ = exec.Command(taskset, "-a", "-p", "-c", "0-1023", strconv.Itoa(os.Getpid())).Run() })
	w.wrap = func(cmd *exec.Cmd) (*exec.Cmd, error) {
		c := exec.Command(taskset, append([]string{"-c", "0", cmd.Path}, cmd.Args[1:]...)...)
		c.Env = cmd.Env
		return c, nil
	}
	return "on one core of its own "
}

// question is a request as bytes, and which status is its success.
type question struct {
	text []byte
	want int
}

func (w *world) tokenRequest() question {
	form := url.Values{"grant_type": {"client_credentials"}}.Encode()
	auth := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(w.machine.ID) + ":" + url.QueryEscape(w.machine.Secret)))
	return question{fmt.Appendf(nil, "POST /oauth/token HTTP/1.1\r\nHost: %s\r\nAuthorization: Basic %s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		w.host(), auth, len(form), form), http.StatusOK}
}

func (w *world) pageRequest() question {
	return question{fmt.Appendf(nil, "GET /signin?next=/account HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\r\n", w.host()), http.StatusOK}
}

func (w *world) host() string { return w.issuer[len("http://"):] }

// outcome is what became of what was asked.
type outcome struct {
	span        time.Duration
	offered     int
	ok, refused []time.Duration // from when they were due, sorted
	faults      int
	fault       string
}

// rate is how many a second were answered.
func (o outcome) rate() float64 { return float64(len(o.ok)) / o.span.Seconds() }

// asker asks over many connections.
type asker struct {
	t       *testing.T
	address string
	conns   []*line
}

// line is one connection.
type line struct {
	net.Conn
	in *bufio.Reader
}

func newAsker(t *testing.T, address string) *asker {
	a := &asker{t: t, address: address}
	t.Cleanup(func() {
		for _, c := range a.conns {
			c.Close()
		}
	})
	return a
}

// lines opens connections until there are n.
func (a *asker) lines(n int) []*line {
	a.t.Helper()
	for len(a.conns) < n {
		c, err := net.Dial("tcp", a.address)
		check(a.t, err)
		a.conns = append(a.conns, &line{c, bufio.NewReaderSize(c, 8<<10)})
	}
	return a.conns[:n]
}

// ask sends a question and reads its answer.
func (l *line) ask(q question) (status int, after string, err error) {
	_ = l.SetDeadline(time.Now().Add(20 * time.Second))
	if _, err := l.Write(q.text); err != nil {
		return 0, "", err
	}
	resp, err := http.ReadResponse(l.in, nil)
	if err != nil {
		return 0, "", err
	}
	_, err = io.Copy(io.Discard, resp.Body)
	return resp.StatusCode, resp.Header.Get("Retry-After"), err
}

// note keeps what became of one question.
func (o *outcome) note(q question, due time.Time, status int, after string, err error) {
	took := time.Since(due)
	switch {
	case err == nil && status == q.want:
		o.ok = append(o.ok, took)
	case err == nil && status == http.StatusServiceUnavailable && after != "":
		o.refused = append(o.refused, took)
	default:
		o.faults++
		o.fault = fmt.Sprint(status, " ", err)
	}
}

// closed asks over n connections, each as soon as it has its answer.
func (a *asker) closed(q question, n int, span time.Duration) outcome {
	began := time.Now()
	return a.together(a.lines(n), span, func(l *line, o *outcome) {
		for time.Since(began) < span && o.faults == 0 {
			due := time.Now()
			status, after, err := l.ask(q)
			o.note(q, due, status, after, err)
		}
	})
}

// many are the connections of whoever does not wait for answers: more than the
// server lets in.
const many = 768

// open asks at a rate, whatever comes back. How long an answer took is counted
// from when its question was due, so that waiting here counts too.
func (a *asker) open(rate float64, span time.Duration, q question) outcome {
	lines := a.lines(many)
	due := make(chan time.Time, int(rate*span.Seconds())+1)
	go func() {
		defer close(due)
		began, sent := time.Now(), 0
		for now := began; now.Sub(began) < span; now = time.Now() {
			for ; float64(sent) < rate*now.Sub(began).Seconds(); sent++ {
				due <- began.Add(time.Duration(float64(sent) / rate * float64(time.Second)))
			}
			time.Sleep(500 * time.Microsecond)
		}
	}()
	o := a.together(lines, span, func(l *line, o *outcome) {
		for at := range due {
			o.offered++
			status, after, err := l.ask(q)
			o.note(q, at, status, after, err)
			if err != nil {
				return
			}
		}
	})
	return o
}

// together runs one goroutine for each connection and joins what they noted.
func (a *asker) together(lines []*line, span time.Duration, each func(*line, *outcome)) (sum outcome) {
	parts := make([]outcome, len(lines))
	began := time.Now()
	var wg sync.WaitGroup
	for i, l := range lines {
		wg.Go(func() { each(l, &parts[i]) })
	}
	wg.Wait()
	sum.span = max(span, time.Since(began))
	for _, p := range parts {
		sum.offered += p.offered
		sum.ok, sum.refused = append(sum.ok, p.ok...), append(sum.refused, p.refused...)
		if p.faults > 0 {
			sum.faults, sum.fault = sum.faults+p.faults, p.fault
		}
	}
	slices.Sort(sum.ok)
	slices.Sort(sum.refused)
	return sum
}
