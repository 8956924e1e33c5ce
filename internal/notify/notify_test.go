package notify

import (
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"net/http/httptest"
	"path/filepath"
	"strings"
	"testing"
	"time"

	standardwebhooks "github.com/standard-webhooks/standard-webhooks/libraries/go"

	"github.com/countersign-dev/countersign/internal/hsm"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/notice"
	"github.com/countersign-dev/countersign/internal/web"
)

func sealer(t *testing.T) notice.Sealer {
	t.Helper()
	s, err := hsm.OpenOrCreateFile(filepath.Join(t.TempDir(), "kek"))
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// receiver keeps what it gets and answers as it is told.
type receiver struct {
	*httptest.Server
	status int
	header http.Header
	got    chan *http.Request
	body   chan []byte
}

func newReceiver(t *testing.T) *receiver {
	r := &receiver{status: 204, header: http.Header{}, got: make(chan *http.Request, 100), body: make(chan []byte, 100)}
	r.Server = httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, q *http.Request) {
		b, _ := io.ReadAll(q.Body)
		r.got <- q
		r.body <- b
		for k, v := range r.header {
			w.Header()[k] = v
		}
		w.WriteHeader(r.status)
	}))
	t.Cleanup(r.Close)
	return r
}

// Two secrets sign while they overlap, so a receiver with either one verifies it
// with the library of the standard; afterwards only the newer one does.
func TestHooksAreSigned(t *testing.T) {
	r, s := newReceiver(t), sealer(t)
	host := strings.TrimPrefix(r.URL, "http://")
	now := time.Now()
	h := NewHooks(web.Egress{Allow: []string{host}}, s, func() time.Time { return now })
	w := notice.Webhook{ID: id.New(id.Webhook), URL: r.URL + "/in"}
	var texts [2]string
	for i := range texts {
		sealed, told, err := notice.NewSecret(s, w.ID)
		if err != nil {
			t.Fatal(err)
		}
		w.Before, w.Sealed, texts[i] = w.Sealed, sealed, told.Reveal()
	}
	w.BeforeEnd = now.Add(time.Minute)
	verifies := func(text string) bool {
		q, b := <-r.got, <-r.body
		v, err := standardwebhooks.NewWebhook(text)
		if err != nil {
			t.Fatal(err)
		}
		if q.Header.Get("Content-Type") != "application/json" || q.Header.Get("webhook-id") != "rec_1" || !json.Valid(b) {
			t.Errorf("%v %s", q.Header, b)
		}
		if v.Verify(append(b, ' '), q.Header) == nil {
			t.Error("another body verifies")
		}
		return v.Verify(b, q.Header) == nil
	}
	post := func() {
		t.Helper()
		if err := h.post(t.Context(), w, "rec_1", []byte(`{"type":"x"}`)); err != nil {
			t.Fatal(err)
		}
	}
	for i, text := range texts {
		if post(); !verifies(text) {
			t.Errorf("secret %d does not verify while both sign", i)
		}
	}
	w.BeforeEnd = now.Add(-time.Second)
	if post(); verifies(texts[0]) {
		t.Error("the old secret still signs")
	}
	if post(); !verifies(texts[1]) {
		t.Error("the new one does not")
	}
	if !strings.HasPrefix(texts[1], "whsec_") {
		t.Error("the secret is not in the form of the standard")
	}
	other := w
	other.ID = id.New(id.Webhook)
	if err := h.post(t.Context(), other, "rec_1", nil); err == nil {
		t.Error("a secret sealed for another webhook was opened")
	}
}

// Anything but 2xx is a failure: also a redirect, which is not followed.
func TestHookAnswers(t *testing.T) {
	r, s := newReceiver(t), sealer(t)
	h := NewHooks(web.Egress{Allow: []string{strings.TrimPrefix(r.URL, "http://")}}, s, nil)
	w := notice.Webhook{ID: id.New(id.Webhook), URL: r.URL}
	w.Sealed, _, _ = notice.NewSecret(s, w.ID)
	r.header.Set("Location", "/elsewhere")
	r.header.Set("Retry-After", "120")
	for status, want := range map[int]string{200: "", 202: "", 302: "its address is not one that may be called", 400: "400", 429: "429", 503: "503"} {
		r.status = status
		err := h.post(t.Context(), w, "rec_1", []byte("{}"))
		var f *failure
		if (want == "") != (err == nil) || err != nil && (!errors.As(err, &f) || !strings.Contains(f.why, want) || f.down || f.final) {
			t.Errorf("%d: %v", status, err)
		}
		if status == 429 && f.after != 2*time.Minute {
			t.Errorf("Retry-After: %v", f.after)
		}
	}
	if len(r.got) != 6 {
		t.Errorf("%d requests: a redirect was followed", len(r.got))
	}
	r.status = 410
	var gone *goneError
	if err := h.post(t.Context(), w, "rec_1", nil); !errors.As(err, &gone) {
		t.Errorf("410: %v", err)
	}
}

// Without a word of the operator, nothing of the own network is called, whatever
// the name; with it, it is.
func TestHooksReachThePublicOnly(t *testing.T) {
	r, s := newReceiver(t), sealer(t)
	_, port, _ := net.SplitHostPort(strings.TrimPrefix(r.URL, "http://"))
	h := NewHooks(web.Egress{}, s, nil)
	for _, url := range []string{r.URL, "https://127.0.0.1:" + port, "https://localhost:" + port, "https://[::1]:" + port, "https://169.254.169.254/latest", "https://0x7f000001:" + port} {
		w := notice.Webhook{ID: id.New(id.Webhook), URL: url}
		w.Sealed, _, _ = notice.NewSecret(s, w.ID)
		var f *failure
		if err := h.post(t.Context(), w, "rec_1", nil); !errors.As(err, &f) || !strings.Contains(f.why, "may be called") && !strings.Contains(f.why, "not known") && !strings.Contains(f.why, "not answer") {
			t.Errorf("%s: %v", url, err)
		}
	}
	if len(r.got) != 0 {
		t.Error("something was called")
	}
}

// A receiver that accepts and never answers costs one attempt its time, no more.
func TestHookThatHangs(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer l.Close()
	s := sealer(t)
	h := NewHooks(web.Egress{Allow: []string{l.Addr().String()}}, s, nil)
	h.client.Timeout = 100 * time.Millisecond
	w := notice.Webhook{ID: id.New(id.Webhook), URL: "http://" + l.Addr().String()}
	w.Sealed, _, _ = notice.NewSecret(s, w.ID)
	begun := time.Now()
	var f *failure
	if err := h.post(t.Context(), w, "rec_1", nil); !errors.As(err, &f) || time.Since(begun) > sendTime {
		t.Errorf("%v after %v", err, time.Since(begun))
	}
}

func TestSchedule(t *testing.T) {
	now := time.Unix(1_790_000_000, 0)
	var total time.Duration
	for n := 1; n <= len(schedule); n++ {
		at := again(now, n, &failure{})
		d := at.Sub(now)
		if d < schedule[n-1] || d > schedule[n-1]*5/4 {
			t.Errorf("attempt %d: %v", n, d)
		}
		total += schedule[n-1]
	}
	if !again(now, len(schedule)+1, &failure{}).IsZero() || !again(now, 1, &failure{final: true}).IsZero() {
		t.Error("it is never given up")
	}
	if total < 20*time.Hour || total > 30*time.Hour {
		t.Errorf("given up after %v", total)
	}
	if d := again(now, 1, &failure{after: 10 * time.Minute}).Sub(now); d < 10*time.Minute {
		t.Errorf("the receiver asked for ten minutes and gets %v", d)
	}
}

func TestQuota(t *testing.T) {
	var q quota
	now := time.Unix(1_790_000_000, 0)
	n := 0
	for range 1000 {
		if q.take("usr_1", now) {
			n++
		}
	}
	if n != perHour || !q.take("usr_2", now) || !q.take("usr_1", now.Add(time.Hour)) {
		t.Errorf("%d in an hour", n)
	}
	for i := range 3 * maxQuota {
		q.take(id.Random("usr_"), now.Add(time.Duration(i)))
	}
	if len(q.sent) > maxQuota+1 {
		t.Errorf("%d are remembered", len(q.sent))
	}
}

// What flickers is not told each time; what stays is, once; and so is its end.
func TestHysteresis(t *testing.T) {
	w := watched{of: map[string]*state{}}
	raised, cleared := 0, 0
	feed := func(pattern string) {
		for _, c := range pattern {
			found := []Finding{{}}
			if c != '#' {
				found = nil
			}
			r, k := w.see(found)
			raised, cleared = raised+len(r), cleared+len(k)
		}
	}
	feed("#.#.##.##.")
	if raised != 0 {
		t.Error("flickering was told")
	}
	feed("########")
	if raised != 1 || cleared != 0 {
		t.Errorf("raised %d, cleared %d", raised, cleared)
	}
	feed(".....#.....#")
	if raised != 1 || cleared != 0 {
		t.Errorf("raised %d, cleared %d", raised, cleared)
	}
	feed(".........###")
	if raised != 2 || cleared != 1 {
		t.Errorf("raised %d, cleared %d", raised, cleared)
	}
}

// Of a rule that stands for each of many, each is told by itself: what begins later too,
// and the end of one is not that of another.
func TestEachSubject(t *testing.T) {
	w := watched{of: map[string]*state{}}
	var told []string
	see := func(times int, subjects ...string) {
		for range times {
			var found []Finding
			for _, s := range subjects {
				found = append(found, Finding{Subject: s})
			}
			raise, clear := w.see(found)
			for _, f := range raise {
				told = append(told, "+"+f.Subject)
			}
			for _, s := range clear {
				told = append(told, "-"+s)
			}
		}
	}
	see(9, "a", "b")
	see(9, "b", "c")
	see(9)
	if got := strings.Join(told, " "); got != "+a +b +c -a -b -c" || len(w.of) != 0 {
		t.Errorf("%s, %d are remembered", got, len(w.of))
	}
	if got := listed(make([]string, maxListed+2)); !strings.HasSuffix(got, "; and 2 more") {
		t.Error(got)
	}
}
