//go:build linux

package trust

import (
	"bufio"
	"bytes"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/base64"
	"fmt"
	"net"
	"net/http"
	"net/url"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/bench/proc"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// TestSaturation offers five times what the server can do, without waiting for
// answers: it goes on doing nearly all that it can, those let in are answered
// soon, and the others are refused at once. It is done with the clients that the
// product is made for, which prove two keys with each request, and with the
// cheapest there is, a secret, where a refusal costs most by comparison. Then
// people's pages are stormed so, while clients ask for tokens and introspection at
// a rate that the server could do: they notice nothing. The server has one core,
// who asks the other one.
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
	a := newAsker(t, w.address)
	a.closed(w.tokenRequest(), many, span/4) // warm, and all connections are there
	// What has to be left of the peak. A request costs something to read and to
	// refuse, and four are refused for each that is given: docs/trust.md.
	w.stormed(dsn, a, pinned, "private_key_jwt and DPoP", span, w.provedRequests, 0.6)
	peak := w.stormed(dsn, a, pinned, "a secret", span, func(int) question { return w.tokenRequest() }, 0.2)
	w.pagesStormed(t, dsn, a, w.tokenRequest(), peak, span)
}

// stormed finds the peak and storms with five times as much; the peak is given, in
// tokens a second. questions makes that many.
func (w *world) stormed(dsn string, a *asker, pinned, with string, span time.Duration, questions func(n int) question, least float64) float64 {
	t := w.t
	var peak, storm outcome
	q := questions(int(6000 * span.Seconds()))
	calm := w.cost(func() int { peak = a.closed(q, 256, span); return len(peak.ok) })
	if peak.faults > 0 || len(peak.ok) == 0 {
		t.Fatalf("%s: %d faults: %s", with, peak.faults, peak.fault)
	}
	offer := 5 * peak.rate()
	q = questions(int(offer * span.Seconds()))
	stormed := w.cost(func() int { storm = a.open(offer, span, q); return len(storm.ok) })
	rss, err := proc.RSS(w.run.PID())
	check(t, err)
	report(t, "saturation ×5, "+with+", "+engine(dsn), "%sat most %.0f tokens/s; of %.0f/s offered %.0f/s are given (%.0f %%), p50 %s, p99 %s; the others are refused with 503 and Retry-After, p50 %s, p99 %s; for each token the server's processor works %.2f times as long as without the others; %d MB of memory",
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
	if full() && (storm.rate() < least*peak.rate() || percentile(storm.ok, 99) > 250*time.Millisecond || percentile(storm.refused, 99) > 20*time.Millisecond || rss > 256<<20) {
		t.Errorf("%.0f of %.0f tokens/s, p99 %s, refused p99 %s, %d MB", storm.rate(), peak.rate(), percentile(storm.ok, 99), percentile(storm.refused, 99), rss>>20)
	}
	return peak.rate()
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

// question is a request as bytes, which status is its success, and, if one is good
// for one answer only, how many more there are.
type question struct {
	text []byte
	want int
	more *questions
}

// questions are made before they are asked, so that making them costs nothing then.
type questions struct {
	text [][]byte
	next atomic.Int64
}

// take is the next question's text; nil if there is none left.
func (q question) take() []byte {
	if q.more == nil {
		return q.text
	}
	if i := int(q.more.next.Add(1)) - 1; i < len(q.more.text) {
		return q.more.text[i]
	}
	return nil
}

func (w *world) tokenRequest() question {
	form := url.Values{"grant_type": {"client_credentials"}}.Encode()
	auth := base64.StdEncoding.EncodeToString([]byte(url.QueryEscape(w.machine.ID) + ":" + url.QueryEscape(w.machine.Secret)))
	return question{text: w.formRequest("Authorization: Basic "+auth, form), want: http.StatusOK}
}

func (w *world) formRequest(header, form string) []byte {
	return fmt.Appendf(nil, "POST /oauth/token HTTP/1.1\r\nHost: %s\r\n%s\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: %d\r\n\r\n%s",
		w.host(), header, len(form), form)
}

// provedRequests makes n token requests of a client that authenticates with a key
// and binds its token to another one (RFC 7523 §2.2, RFC 9449 §5).
func (w *world) provedRequests(n int) question {
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(w.t, err)
	var nonce string
	one := func() []byte {
		assertion, err := w.keyed.Assertion()
		check(w.t, err)
		proof, err := jose.MakeDPoP(key, http.MethodPost, w.issuer+"/oauth/token", nonce, "", time.Now())
		check(w.t, err)
		return w.formRequest("DPoP: "+proof, url.Values{
			"grant_type": {"client_credentials"}, "client_id": {w.keyed.ID}, "client_assertion": {assertion},
			"client_assertion_type": {"urn:ietf:params:oauth:client-assertion-type:jwt-bearer"},
		}.Encode())
	}
	// The first is sent to learn the server's nonce.
	conn, err := net.Dial("tcp", w.address)
	check(w.t, err)
	defer conn.Close()
	_, err = conn.Write(one())
	check(w.t, err)
	resp, err := http.ReadResponse(bufio.NewReader(conn), nil)
	check(w.t, err)
	nonce = resp.Header.Get("DPoP-Nonce")
	q := &questions{text: make([][]byte, n)}
	for i := range q.text {
		q.text[i] = one()
	}
	return question{want: http.StatusOK, more: q}
}

func (w *world) pageRequest() question {
	return question{text: fmt.Appendf(nil, "GET /signin?next=/account HTTP/1.1\r\nHost: %s\r\nUser-Agent: Mozilla/5.0 (X11; Linux x86_64; rv:140.0) Gecko/20100101 Firefox/140.0\r\n\r\n", w.host()), want: http.StatusOK}
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
func (l *line) ask(text []byte) (status int, again bool, err error) {
	_ = l.SetDeadline(time.Now().Add(soon(20 * time.Second)))
	if _, err := l.Write(text); err != nil {
		return 0, false, err
	}
	return l.answer()
}

// answer reads what of an answer is of interest: reading it as a whole would take
// the time in which the next ones should be asked.
func (l *line) answer() (status int, again bool, err error) {
	head, err := l.in.ReadSlice('\n')
	if err != nil {
		return 0, false, err
	}
	if len(head) < 12 {
		return 0, false, fmt.Errorf("the answer begins with %q", head)
	}
	if status, err = strconv.Atoi(string(head[9:12])); err != nil {
		return 0, false, err
	}
	length := -1
	for {
		h, err := l.in.ReadSlice('\n')
		if err != nil {
			return 0, false, err
		}
		if len(h) <= 2 {
			break
		}
		name, value, _ := bytes.Cut(h, []byte(": "))
		switch string(name) {
		case "Content-Length":
			if length, err = strconv.Atoi(string(bytes.TrimSpace(value))); err != nil {
				return 0, false, err
			}
		case "Retry-After":
			again = true
		}
	}
	if length < 0 {
		return 0, false, fmt.Errorf("%d without a length", status)
	}
	_, err = l.in.Discard(length)
	return status, again, err
}

// note keeps what became of one question.
func (o *outcome) note(want int, due time.Time, status int, again bool, err error) {
	took := time.Since(due)
	switch {
	case err == nil && status == want:
		o.ok = append(o.ok, took)
	case err == nil && status == http.StatusServiceUnavailable && again:
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
			text := q.take()
			if text == nil {
				return
			}
			due := time.Now()
			status, again, err := l.ask(text)
			o.note(q.want, due, status, again, err)
		}
	})
}

// many are the connections of whoever does not wait for answers: more than the
// server lets in.
const many = 2048

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
			text := q.take()
			if text == nil {
				continue
			}
			o.offered++
			status, again, err := l.ask(text)
			o.note(q.want, at, status, again, err)
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
