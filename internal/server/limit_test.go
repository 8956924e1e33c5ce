package server

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"runtime"
	"strings"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign-dev/countersign/internal/web"
)

// TestBodiesThatTrickle: whoever sends requests whose bodies never end does not
// take the places of those who are here, and a body arrives as it was sent.
func TestBodiesThatTrickle(t *testing.T) {
	echo := http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		b, err := io.ReadAll(r.Body)
		if err == nil { // of those who break off nothing is expected
			_, _ = w.Write(b)
		}
	})
	srv := httptest.NewServer((&Server{lanes: newLanes()}).limit(echo))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			c.Close()
		}
	}()
	for range apiPlaces + maxQueue + 100 {
		c, err := net.DialTimeout("tcp", addr, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		slow = append(slow, c)
		if _, err := fmt.Fprintf(c, "POST / HTTP/1.1\r\nHost: %s\r\nContent-Length: 100\r\n\r\nhalf", addr); err != nil {
			t.Fatal(err)
		}
	}
	time.Sleep(200 * time.Millisecond)
	for _, body := range []string{"", "grant_type=x", strings.Repeat("long ", 40_000)} {
		res, err := http.Post(srv.URL, "text/plain", strings.NewReader(body))
		if err != nil {
			t.Fatal(err)
		}
		got, err := io.ReadAll(res.Body)
		res.Body.Close()
		if err != nil || res.StatusCode != http.StatusOK || string(got) != body {
			t.Errorf("a body of %d bytes: %d, %d bytes back, %v", len(body), res.StatusCode, len(got), err)
		}
	}
}

// TestSlowNetwork: one network that sends bodies slowly takes a share of the places
// where they are awaited, over real sockets, and others are served beside it; a header
// that names another address changes nothing. When it goes, its places are free.
func TestSlowNetwork(t *testing.T) {
	if runtime.GOOS != "linux" {
		t.Skip("only Linux has all of 127.0.0.0/8")
	}
	s := &Server{lanes: newLanes()}
	rec := web.Recorder{Log: slog.New(slog.DiscardHandler)}
	srv := httptest.NewServer(rec.Wrap(s.limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) { _, _ = io.Copy(w, r.Body) }))))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	send := func(from, header, body string) net.Conn {
		t.Helper()
		d := net.Dialer{LocalAddr: &net.TCPAddr{IP: net.ParseIP(from)}, Timeout: time.Minute}
		c, err := d.Dial("tcp", addr)
		if err != nil {
			t.Fatal(err)
		}
		if _, err := fmt.Fprintf(c, "POST /oauth/token HTTP/1.1\r\nHost: %s\r\n%sContent-Length: 4\r\n\r\n%s", addr, header, body); err != nil {
			t.Fatal(err)
		}
		return c
	}
	answered := func(c net.Conn) int {
		t.Helper()
		defer c.Close()
		res, err := http.ReadResponse(bufio.NewReader(c), nil)
		if err != nil {
			t.Fatal(err)
		}
		return res.StatusCode
	}
	taken := func() int {
		s.lanes.reading.mu.Lock()
		defer s.lanes.reading.mu.Unlock()
		return maxReading - s.lanes.reading.free
	}
	share := (maxReading + 1) / 3
	var slow []net.Conn
	defer func() {
		for _, c := range slow {
			c.Close()
		}
	}()
	for i := range share + 50 {
		header := ""
		if i%2 == 1 {
			header = fmt.Sprintf("X-Forwarded-For: 198.51.100.%d\r\n", i%250)
		}
		slow = append(slow, send("127.0.0.1", header, "ha"))
	}
	waitFor(t, func() bool { return taken() == share })
	if code := answered(send("127.0.0.2", "", "whol")); code != http.StatusServiceUnavailable {
		t.Errorf("the same network: %d", code)
	}
	if code := answered(send("127.0.1.1", "", "whol")); code != http.StatusOK {
		t.Errorf("another network: %d", code)
	}
	for _, c := range slow {
		c.Close()
	}
	waitFor(t, func() bool { return taken() == 0 && len(s.lanes.reading.held) == 0 })
	if code := answered(send("127.0.0.1", "", "whol")); code != http.StatusOK {
		t.Errorf("afterwards: %d", code)
	}
}

// TestManySlowNetworks: of however many that take all they get, the next finds a place.
func TestManySlowNetworks(t *testing.T) {
	p := newReading(maxReading)
	for n := range 12 {
		got := 0
		for p.enter(fmt.Sprint(n)) != nil {
			got++
		}
		if got == 0 || n == 0 && got != (maxReading+1)/3 {
			t.Errorf("network %d gets %d", n, got)
		}
	}
	if p.enter("an honest one") == nil {
		t.Errorf("with %d free, nobody else is let in", p.free)
	}
}

// TestSlowReaders: whoever asks and does not read holds a place of the log's lane
// only, and not for ever.
func TestSlowReaders(t *testing.T) {
	s := &Server{lanes: newLanes()}
	srv := httptest.NewServer(s.limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
		if strings.HasPrefix(r.URL.Path, "/log/") {
			_, _ = w.Write(make([]byte, 64<<20)) // more than sockets hold
		}
	})))
	defer srv.Close()
	addr := strings.TrimPrefix(srv.URL, "http://")
	var slow []net.Conn
	for range logPlaces {
		c, err := net.DialTimeout("tcp", addr, time.Minute)
		if err != nil {
			t.Fatal(err)
		}
		defer c.Close()
		slow = append(slow, c)
		if _, err := fmt.Fprintf(c, "GET /log/1/tile/0/000 HTTP/1.1\r\nHost: %s\r\n\r\n", addr); err != nil {
			t.Fatal(err)
		}
	}
	waitFor(t, func() bool { return len(s.lanes.log.places) == logPlaces })
	for _, path := range []string{"/oauth/token", "/signin"} {
		res, err := http.Get(srv.URL + path)
		if err != nil {
			t.Fatal(err)
		}
		res.Body.Close()
		if res.StatusCode != http.StatusOK {
			t.Errorf("%s beside slow readers: %d", path, res.StatusCode)
		}
	}
	for _, c := range slow {
		c.Close()
	}
	waitFor(t, func() bool { return len(s.lanes.log.places) == 0 }) // who has gone holds none
}

// stuck is who asks and takes nothing of the answer.
type stuck struct {
	*httptest.ResponseRecorder
	entered, gone chan struct{}
}

func (s stuck) Write(b []byte) (int, error) {
	close(s.entered)
	<-s.gone
	return len(b), nil
}

// TestPlacesAreForWork: an answer that nobody takes holds no place, and arrives as it
// was written; a longer one than is held back is written as it comes.
func TestPlacesAreForWork(t *testing.T) {
	for _, path := range []string{"/oauth/token", "/signin"} {
		s := &Server{lanes: newLanes()}
		h := s.limit(http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
			if len(s.lanes.of(path).places) != 1 {
				t.Error("the work has no place")
			}
			w.Header().Set("X-Made", "yes")
			w.WriteHeader(http.StatusTeapot)
			_, _ = io.WriteString(w, "one ")
			_, _ = io.WriteString(w, "two")
		}))
		w := stuck{httptest.NewRecorder(), make(chan struct{}), make(chan struct{})}
		done := make(chan struct{})
		go func() { h.ServeHTTP(w, httptest.NewRequest(http.MethodGet, path, nil)); close(done) }()
		<-w.entered
		if n := len(s.lanes.of(path).places); n != 0 {
			t.Errorf("%s: %d places are held by who does not read", path, n)
		}
		close(w.gone)
		<-done
		taken := httptest.NewRecorder()
		h.ServeHTTP(taken, httptest.NewRequest(http.MethodGet, path, nil))
		if taken.Code != http.StatusTeapot || taken.Body.String() != "one two" || taken.Header().Get("X-Made") != "yes" {
			t.Errorf("%d %q", taken.Code, taken.Body)
		}
	}
	long := strings.Repeat("x", maxHeld/2+1)
	w := httptest.NewRecorder()
	(&Server{lanes: newLanes()}).limit(http.HandlerFunc(func(a http.ResponseWriter, _ *http.Request) {
		for n := range 4 {
			_, _ = io.WriteString(a, long)
			if n == 1 && w.Body.Len() == 0 {
				t.Error("all of a long answer is held back")
			}
		}
		a.WriteHeader(http.StatusTeapot) // too late, as ever
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/signin", nil))
	if w.Code != http.StatusOK || w.Body.Len() != 4*len(long) {
		t.Errorf("%d, %d bytes", w.Code, w.Body.Len())
	}
}

// TestWriteTime: an answer that nobody takes ends with its time, and the
// connection's next one has its own.
func TestWriteTime(t *testing.T) {
	s := &Server{lanes: newLanes()}
	w := &timed{ResponseRecorder: httptest.NewRecorder()}
	s.limit(http.HandlerFunc(func(http.ResponseWriter, *http.Request) {
		if left := time.Until(w.deadline); left <= writeTime-10*time.Second || left > writeTime {
			t.Errorf("it may take %s", left)
		}
	})).ServeHTTP(w, httptest.NewRequest(http.MethodGet, "/oauth/userinfo", nil))
	if !w.deadline.IsZero() || w.set != 2 {
		t.Errorf("afterwards the connection's time ends at %s", w.deadline)
	}
}

// timed is a writer with a deadline.
type timed struct {
	*httptest.ResponseRecorder
	deadline time.Time
	set      int
}

// SetWriteDeadline is what http.ResponseController calls.
func (w *timed) SetWriteDeadline(at time.Time) error {
	w.deadline, w.set = at, w.set+1
	return nil
}

// TestStandingQueue: many at once are let in, however long each takes; once the
// queue has been standing, nobody is who would wait for longer than maxWait; and
// whoever gives up waiting leaves it.
func TestStandingQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := newLane(2)
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		l.mean.Store(int64(40 * time.Millisecond))
		var leave []func()
		for range 2 {
			leave = append(leave, l.enter(ctx))
		}
		var inside, gone sync.WaitGroup
		wait := func(ctx context.Context, wg *sync.WaitGroup) {
			wg.Go(func() {
				if f := l.enter(ctx); f != nil {
					f()
				}
			})
			synctest.Wait()
		}
		for range 100 { // two seconds' worth
			wait(ctx, &inside)
		}
		if l.full() {
			t.Error("a burst is refused")
		}
		time.Sleep(longQueue)
		if !l.full() {
			t.Error("a standing queue takes more")
		}
		if l.enter(ctx) != nil {
			t.Error("and lets them in")
		}
		l.mean.Store(int64(time.Millisecond)) // it turns out that they are quick
		if l.full() {
			t.Error("a queue of 50 ms is refused")
		}
		impatient, goes := context.WithTimeout(ctx, time.Second)
		defer goes()
		wait(impatient, &gone)
		gone.Wait()
		if n := l.waiting.Load(); n != 100 {
			t.Errorf("%d wait", n)
		}
		for _, f := range leave {
			f()
		}
		inside.Wait()
		if l.full() || l.waiting.Load() != 0 || len(l.places) != 0 {
			t.Errorf("in the end %d wait and %d are inside", l.waiting.Load(), len(l.places))
		}
	})
}
