package feed

import (
	"compress/gzip"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"io"
	"net/http"
	"net/http/httptest"
	"slices"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/web"
)

const (
	issuerURL = "https://id.example.com"
	audA      = "https://a.example"
	audB      = "https://b.example"
)

// memory is a Source in memory.
type memory struct {
	mu    sync.Mutex
	lines []lineage.Revocation
	fail  error
	reads int
}

func (m *memory) Revocations(_ context.Context, after uint64, n int) ([]lineage.Revocation, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.reads++
	var out []lineage.Revocation
	records := 0
	for _, l := range m.lines {
		if l.Seq <= after {
			continue
		}
		if len(out) == 0 || out[len(out)-1].Seq != l.Seq {
			if records++; records > n {
				break
			}
		}
		out = append(out, l)
	}
	return out, m.fail
}

func (m *memory) RevocationsSince(_ context.Context, at time.Time) ([]lineage.Revocation, uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	var out []lineage.Revocation
	for _, l := range m.lines {
		if !l.At.Before(at) {
			out = append(out, l)
		}
	}
	return out, m.head(), m.fail
}

func (m *memory) RevocationHead(context.Context) (uint64, error) {
	m.mu.Lock()
	defer m.mu.Unlock()
	return m.head(), m.fail
}

func (m *memory) head() uint64 {
	if len(m.lines) == 0 {
		return 0
	}
	return m.lines[len(m.lines)-1].Seq
}

// end records the end (or thaw) of nodes as one record with number seq.
func (m *memory) end(seq uint64, thaw bool, nodes ...string) {
	m.mu.Lock()
	defer m.mu.Unlock()
	for _, n := range nodes {
		m.lines = append(m.lines, lineage.Revocation{Seq: seq, Node: n, Kind: lineage.Session, At: time.Now(), Thawed: thaw})
	}
}

// server is a hub with its HTTP surface. Callers name themselves.
type server struct {
	*Hub
	src     *memory
	mux     *http.ServeMux
	keys    *jose.JWKSet
	signed  atomic.Int64
	signErr atomic.Pointer[error]
	stop    context.CancelFunc
}

var lineageKey = []byte("0123456789abcdef0123456789abcdef")

func newServer(t testing.TB, change func(*Config, *memory)) *server {
	t.Helper()
	k, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	if err != nil {
		t.Fatal(err)
	}
	s := &server{src: &memory{}, mux: http.NewServeMux(), keys: &jose.JWKSet{Keys: []jose.JWK{{Key: k.Public(), KeyID: "f1"}}}}
	signer, err := jose.NewSigner(k, jose.ES256, "f1", jose.TypFeed)
	if err != nil {
		t.Fatal(err)
	}
	cfg := Config{
		Issuer: issuerURL, Epoch: 3, Source: s.src,
		AudienceKey: func(aud string) ([]byte, error) { return lineage.AudienceKey(lineageKey, aud) },
		Signer: func() (*jose.Signer, error) {
			s.signed.Add(1)
			if e := s.signErr.Load(); e != nil {
				return nil, *e
			}
			return signer, nil
		},
		Authenticate: func(r *http.Request) (Caller, error) {
			who := r.Header.Get("X-Test")
			if who == "" {
				return Caller{}, problem.New(problem.Unauthenticated, "invalid_token", "who")
			}
			client, instance, _ := strings.Cut(who, "/")
			return Caller{Client: client, Instance: instance, Audiences: []string{audA, audB}}, nil
		},
	}
	if change != nil {
		change(&cfg, s.src)
	}
	s.Hub = New(cfg)
	s.Mount(s.mux, func(w http.ResponseWriter, _ *http.Request, err error) { http.Error(w, err.Error(), web.StatusOf(err)) })
	ctx, cancel := context.WithCancel(context.Background())
	s.stop = cancel
	done := make(chan struct{})
	go func() { s.Run(ctx); close(done) }()
	t.Cleanup(func() { cancel(); <-done })
	return s
}

// listen subscribes without HTTP.
func (s *server) listen(t testing.TB, c Caller, aud string, after uint64) *subscriber {
	t.Helper()
	sub, leave, err := s.subscribe(t.Context(), c, aud, 3, after)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(leave)
	return sub
}

// next gives the frame that waits, verified; nil if none does.
func (s *server) next(t testing.TB, sub *subscriber, aud string) *jose.FeedFrame {
	t.Helper()
	select {
	case f := <-sub.frames:
		fr, err := jose.VerifyFeedFrame(f, s.keys, jose.FeedWant{Issuer: issuerURL, Audience: aud})
		if err != nil {
			t.Fatal(err)
		}
		if fr.Epoch != 3 || fr.IssuedAt.Time().Unix() != time.Now().Unix() {
			t.Errorf("frame %+v", fr)
		}
		return fr
	default:
		return nil
	}
}

func handleAt(t testing.TB, aud, node string) string {
	t.Helper()
	key, err := lineage.AudienceKey(lineageKey, aud)
	if err != nil {
		t.Fatal(err)
	}
	b, _ := id.Bytes(node)
	return lineage.Handle(key, lineage.Session, b)
}

func entriesOf(f *jose.FeedFrame) (ended, thawed []string) {
	for _, e := range f.Entries {
		if e.Cutoff == nil {
			thawed = append(thawed, e.Handle)
		} else {
			ended = append(ended, e.Handle)
		}
	}
	return ended, thawed
}

func TestFramesFollowTheLog(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n1, n2, n3 := id.New(id.Session), id.New(id.Session), id.New(id.Session)
		s := newServer(t, func(_ *Config, m *memory) { m.end(7, false, n1) })
		synctest.Wait()
		a, b := s.listen(t, Caller{Client: "a"}, audA, 7), s.listen(t, Caller{Client: "b"}, audB, 7)
		for _, sub := range []*subscriber{a, b} {
			aud := map[*subscriber]string{a: audA, b: audB}[sub]
			if f := s.next(t, sub, aud); f == nil || f.Seq != 7 || f.Prev != 7 || len(f.Entries) != 0 {
				t.Fatalf("at once a heartbeat, got %+v", f)
			}
		}
		s.src.end(12, false, n2, n3)
		s.Wake()
		synctest.Wait() // without the clock moving
		fa, fb := s.next(t, a, audA), s.next(t, b, audB)
		if fa == nil || fb == nil || fa.Prev != 7 || fa.Seq != 12 {
			t.Fatalf("got %+v and %+v", fa, fb)
		}
		ea, _ := entriesOf(fa)
		eb, _ := entriesOf(fb)
		if !slices.Equal(ea, []string{handleAt(t, audA, n2), handleAt(t, audA, n3)}) {
			t.Errorf("entries %v", ea)
		}
		for _, h := range ea {
			if slices.Contains(eb, h) {
				t.Errorf("handle %s at both audiences", h)
			}
		}
		s.src.end(20, true, n2)
		time.Sleep(PollEvery) // and without being woken
		synctest.Wait()
		f := s.next(t, a, audA)
		if _, thawed := entriesOf(f); f.Prev != 12 || f.Seq != 20 || !slices.Equal(thawed, []string{handleAt(t, audA, n2)}) {
			t.Errorf("thaw: %+v", f)
		}
		time.Sleep(HeartbeatEvery)
		synctest.Wait()
		if f := s.next(t, a, audA); f == nil || f.Seq != 20 || f.Prev != 20 {
			t.Errorf("heartbeat: %+v", f)
		}
		if f := s.next(t, a, audA); f != nil {
			t.Errorf("more than one: %+v", f)
		}
	})
}

func TestOneSignatureForAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		synctest.Wait()
		var subs []*subscriber
		for n := range 100 {
			subs = append(subs, s.listen(t, Caller{Client: "c", Instance: strconv.Itoa(n)}, audA, 0))
		}
		if s.signed.Load() != 1 {
			t.Errorf("%d signatures for 100 who came in one second", s.signed.Load())
		}
		s.src.end(1, false, id.New(id.Session))
		s.Wake()
		synctest.Wait()
		if s.signed.Load() != 2 {
			t.Errorf("%d signatures for one frame", s.signed.Load()-1)
		}
		for _, sub := range subs {
			if len(sub.frames) != 2 {
				t.Fatalf("%d frames", len(sub.frames))
			}
		}
	})
}

func TestPositions(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var nodes []string
		s := newServer(t, func(_ *Config, m *memory) {
			for n := range uint64(5) {
				nodes = append(nodes, id.New(id.Session))
				m.end(10+n, false, nodes[n])
			}
		})
		synctest.Wait()
		f := s.next(t, s.listen(t, Caller{}, audA, 12), audA)
		if e, _ := entriesOf(f); f.Prev != 12 || f.Seq != 14 || !slices.Equal(e, []string{handleAt(t, audA, nodes[3]), handleAt(t, audA, nodes[4])}) {
			t.Errorf("from within: %+v", f)
		}
		if f := s.next(t, s.listen(t, Caller{}, audA, 9), audA); f.Prev != 9 || f.Seq != 14 || len(f.Entries) != 5 {
			t.Errorf("from the floor: %+v", f)
		}
		for _, tt := range []struct {
			epoch int64
			after uint64
		}{{3, 8}, {3, 16}, {2, 14}, {4, 14}} {
			if _, _, err := s.subscribe(t.Context(), Caller{}, audA, tt.epoch, tt.after); !errors.Is(err, errGone) {
				t.Errorf("epoch %d after %d: %v", tt.epoch, tt.after, err)
			}
		}
		// What was signed for one who came from the same place a moment ago is
		// not given to the next if there is more by now.
		s.src.end(15, false, id.New(id.Session))
		s.Wake()
		synctest.Wait()
		if f := s.next(t, s.listen(t, Caller{}, audA, 12), audA); f.Prev != 12 || f.Seq != 15 || len(f.Entries) != 3 {
			t.Errorf("the same place, later: %+v", f)
		}
		// Another replica was faster: we look, and find it.
		s.src.end(30, false, id.New(id.Session))
		if f := s.next(t, s.listen(t, Caller{}, audA, 30), audA); f.Prev != 30 || f.Seq != 30 {
			t.Errorf("ahead of us: %+v", f)
		}
		// What no live token can descend from is forgotten, and with it the way from there.
		time.Sleep(7 * time.Minute)
		synctest.Wait()
		if st := s.Stats(); st.Live != 0 || st.Head != 30 {
			t.Errorf("%+v", st)
		}
		if _, _, err := s.subscribe(t.Context(), Caller{}, audA, 3, 29); !errors.Is(err, errGone) {
			t.Errorf("a position no longer held: %v", err)
		}
		s.listen(t, Caller{}, audA, 30)
	})
}

func TestEntriesAreKeptLongEnough(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		s.src.end(1, false, id.New(id.Session))
		time.Sleep(2*time.Second + 5*time.Minute + time.Minute)
		synctest.Wait()
		if s.Stats().Live != 1 {
			t.Error("forgotten too early (C8)")
		}
		// A hub that starts now still tells it.
		if again := newServer(t, func(c *Config, _ *memory) { c.Source = s.src }); true {
			synctest.Wait()
			if again.Stats().Live != 1 {
				t.Error("a restart forgot")
			}
		}
	})
}

func TestPagesAndFrameSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		synctest.Wait()
		sub := s.listen(t, Caller{}, audA, 0)
		s.next(t, sub, audA)
		want := 0
		for n := range uint64(2 * page) {
			nodes := make([]string, 1+n%7)
			for i := range nodes {
				nodes[i] = id.New(id.Session)
			}
			s.src.end(n+1, false, nodes...)
			want += len(nodes)
		}
		s.Wake()
		synctest.Wait()
		at, got := int64(0), 0
		for f := s.next(t, sub, audA); f != nil; f = s.next(t, sub, audA) {
			if f.Prev != at || len(f.Entries) > frameEntries {
				t.Fatalf("frame %d→%d after %d with %d entries", f.Prev, f.Seq, at, len(f.Entries))
			}
			at, got = f.Seq, got+len(f.Entries)
		}
		if at != 2*page || got != want {
			t.Errorf("came to %d with %d entries, want %d", at, got, want)
		}
	})
}

func TestSlowSubscriberIsDropped(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		synctest.Wait()
		slow, quick := s.listen(t, Caller{Client: "slow"}, audA, 0), s.listen(t, Caller{Client: "quick"}, audA, 0)
		for n := range uint64(queue + 5) {
			s.src.end(n+1, false, id.New(id.Session))
			s.Wake()
			synctest.Wait()
			for s.next(t, quick, audA) != nil {
			}
		}
		select {
		case <-slow.gone:
		default:
			t.Error("still there")
		}
		if st := s.Stats(); st.Subscribers != 1 || st.Dropped != 1 {
			t.Errorf("%+v", st)
		}
	})
}

// A heartbeat says that there is nothing else; who cannot know that is silent.
func TestNoHeartbeatWithoutTheSource(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		synctest.Wait()
		sub := s.listen(t, Caller{}, audA, 0)
		s.next(t, sub, audA)
		s.src.mu.Lock()
		s.src.fail = errors.New("down")
		s.src.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if f := s.next(t, sub, audA); f != nil {
			t.Errorf("got %+v", f)
		}
		if _, _, err := s.subscribe(t.Context(), Caller{}, audA, 3, 0); !errors.Is(err, problem.Unavailable) {
			t.Errorf("a new stream: %v", err)
		}
		if _, err := s.snapshotOf(t.Context(), audA); !errors.Is(err, problem.Unavailable) {
			t.Errorf("a snapshot: %v", err)
		}
		s.src.mu.Lock()
		s.src.fail = nil
		s.src.mu.Unlock()
		time.Sleep(HeartbeatEvery)
		synctest.Wait()
		if s.next(t, sub, audA) == nil {
			t.Error("no heartbeat though the source is back")
		}
	})
}

func TestLogThatWentBack(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(_ *Config, m *memory) { m.end(9, false, id.New(id.Session)) })
		synctest.Wait()
		sub := s.listen(t, Caller{}, audA, 9)
		s.next(t, sub, audA)
		s.src.mu.Lock()
		s.src.lines = nil
		s.src.mu.Unlock()
		time.Sleep(time.Minute)
		synctest.Wait()
		if f := s.next(t, sub, audA); f != nil {
			t.Errorf("got %+v", f)
		}
	})
}

func TestSignerThatFails(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		synctest.Wait()
		sub := s.listen(t, Caller{}, audA, 0)
		fault := errors.New("no key")
		s.signErr.Store(&fault)
		time.Sleep(HeartbeatEvery)
		synctest.Wait()
		select {
		case <-sub.gone:
		default:
			t.Error("a subscriber that cannot be told is still connected")
		}
	})
}

func TestOverflowRefusesEverything(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, func(c *Config, _ *memory) { c.MaxEntries = 10 })
		synctest.Wait()
		sub := s.listen(t, Caller{}, audA, 0)
		s.next(t, sub, audA)
		for n := range uint64(11) {
			s.src.end(n+1, false, id.New(id.Session))
		}
		s.Wake()
		synctest.Wait()
		f := s.next(t, sub, audA)
		if f == nil || f.Seq != 11 || f.Prev != 0 || len(f.Entries) != 0 || f.All.Time().Unix() != time.Now().Unix() {
			t.Fatalf("got %+v", f)
		}
		all := f.All
		if shot := s.readSnapshot(t, audA); shot.All != all || len(shot.Entries) != 0 || shot.Seq != 11 {
			t.Errorf("snapshot %+v", shot)
		}
		s.src.end(12, false, id.New(id.Session))
		s.Wake()
		synctest.Wait()
		if f := s.next(t, sub, audA); f.Prev != 11 || len(f.Entries) != 1 || f.All != all {
			t.Errorf("after it: %+v", f)
		}
		time.Sleep(8 * time.Minute)
		if shot := s.readSnapshot(t, audA); shot.All != 0 {
			t.Errorf("for ever: %+v", shot)
		}
	})
}

func (s *server) readSnapshot(t testing.TB, aud string) *jose.FeedFrame {
	t.Helper()
	r := httptest.NewRequest("GET", "/v1/revocations/snapshot?aud="+aud, nil)
	r.Header.Set("X-Test", "rs/1")
	w := httptest.NewRecorder()
	s.mux.ServeHTTP(w, r)
	if w.Code != 200 || w.Header().Get("Content-Encoding") != "gzip" {
		t.Fatalf("snapshot: %d %s", w.Code, w.Body)
	}
	z, err := gzip.NewReader(w.Body)
	if err != nil {
		t.Fatal(err)
	}
	b, err := io.ReadAll(z)
	if err != nil {
		t.Fatal(err)
	}
	f, err := jose.VerifyFeedFrame(string(b), s.keys, jose.FeedWant{Issuer: issuerURL, Audience: aud, MaxBytes: 64 << 20})
	if err != nil {
		t.Fatal(err)
	}
	return f
}

func TestSnapshotHoldsWhatIsEnded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ended, frozen, thawed, again := id.New(id.Session), id.New(id.Session), id.New(id.Session), id.New(id.Session)
		s := newServer(t, func(_ *Config, m *memory) {
			m.end(1, false, ended, frozen, thawed, again)
			m.end(2, true, thawed, again)
			m.end(3, false, again)
		})
		synctest.Wait()
		f := s.readSnapshot(t, audA)
		e, th := entriesOf(f)
		slices.Sort(e)
		want := []string{handleAt(t, audA, ended), handleAt(t, audA, frozen), handleAt(t, audA, again)}
		slices.Sort(want)
		if f.Seq != 3 || f.Prev != 3 || !slices.Equal(e, want) || th != nil {
			t.Errorf("got %+v", f)
		}
		n := s.signed.Load()
		s.readSnapshot(t, audA)
		if s.signed.Load() != n {
			t.Error("two snapshots of one second are signed apart")
		}
		s.src.end(4, false, thawed)
		s.Wake()
		synctest.Wait()
		if f := s.readSnapshot(t, audA); f.Seq != 4 || len(f.Entries) != 4 {
			t.Errorf("an old snapshot: %+v", f)
		}
	})
}

func TestWaitApplied(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s := newServer(t, nil)
		synctest.Wait()
		ack := func(who string, epoch, seq int) int {
			r := httptest.NewRequest("POST", "/v1/revocations/ack", strings.NewReader(`{"epoch":`+strconv.Itoa(epoch)+`,"seq":`+strconv.Itoa(seq)+`}`))
			r.Header.Set("X-Test", who)
			r.Header.Set("Content-Type", "application/json")
			w := httptest.NewRecorder()
			s.mux.ServeHTTP(w, r)
			return w.Code
		}
		if m := s.WaitApplied(t.Context(), 5, time.Minute); len(m) != 0 {
			t.Errorf("nobody is there: %v", m)
		}
		s.listen(t, Caller{Client: "a", Instance: "1"}, audA, 0)
		s.listen(t, Caller{Client: "a", Instance: "2"}, audA, 0)
		s.listen(t, Caller{Client: "b", Instance: "1"}, audA, 0)
		if got := ack("gone/1", 3, 0); got != 204 {
			t.Fatal(got)
		}
		started := time.Now()
		go func() {
			for n, who := range []string{"a/1", "b/1", "a/2"} {
				time.Sleep(100 * time.Millisecond)
				if got := ack(who, 3, 5+n); got != 204 {
					t.Errorf("%s: %d", who, got)
				}
			}
		}()
		m := s.WaitApplied(t.Context(), 5, time.Minute)
		if d := time.Since(started); d != 300*time.Millisecond || m["a"] != 5 || m["b"] != 6 || len(m) != 2 {
			t.Errorf("after %s: %v", d, m)
		}
		started = time.Now()
		if m := s.WaitApplied(t.Context(), 6, 2*time.Second); m["a"] != 5 || time.Since(started) != 2*time.Second {
			t.Errorf("one is behind: %v after %s", m, time.Since(started))
		}
		if got := ack("a/1", 2, 9); got != 409 {
			t.Errorf("another epoch: %d", got)
		}
		if got := ack("", 3, 9); got != 401 {
			t.Errorf("nobody: %d", got)
		}
	})
}

func TestRequestsThatAreRefused(t *testing.T) {
	s := newServer(t, func(_ *Config, m *memory) { m.end(5, false, id.New(id.Session)) })
	for s.Stats().Head != 5 {
		time.Sleep(time.Millisecond)
	}
	long := strings.Repeat(" ", 2000)
	for _, tt := range []struct {
		method, target, who, body string
		want                      int
	}{
		{"GET", "/v1/revocations/snapshot?aud=" + audA, "rs", "", 200},
		{"GET", "/v1/revocations/snapshot?aud=HTTPS://A.example/", "rs", "", 200},
		{"GET", "/v1/revocations/snapshot?aud=" + audA, "", "", 401},
		{"GET", "/v1/revocations/snapshot?aud=https://other.example", "rs", "", 403},
		{"GET", "/v1/revocations/snapshot", "rs", "", 400},
		{"GET", "/v1/revocations/snapshot?aud=" + audA + "&aud=" + audB, "rs", "", 400},
		{"GET", "/v1/revocations/stream?epoch=3&after=5&aud=" + audA, "", "", 401},
		{"GET", "/v1/revocations/stream?epoch=3&after=5&aud=https://other.example", "rs", "", 403},
		{"GET", "/v1/revocations/stream?epoch=3&after=-1&aud=" + audA, "rs", "", 400},
		{"GET", "/v1/revocations/stream?epoch=3&after=5&after=6&aud=" + audA, "rs", "", 400},
		{"GET", "/v1/revocations/stream?after=5&aud=" + audA, "rs", "", 400},
		{"GET", "/v1/revocations/stream?epoch=x&after=5&aud=" + audA, "rs", "", 400},
		{"GET", "/v1/revocations/stream?epoch=3&after=1&aud=" + audA, "rs", "", 410},
		{"GET", "/v1/revocations/stream?epoch=9&after=5&aud=" + audA, "rs", "", 410},
		{"POST", "/v1/revocations/ack", "rs", `{"epoch":3,"seq":5}`, 204},
		{"POST", "/v1/revocations/ack", "rs", `{"epoch":3}`, 400},
		{"POST", "/v1/revocations/ack", "rs", `{"epoch":3,"seq":-5}`, 400},
		{"POST", "/v1/revocations/ack", "rs", `{"epoch":3,"seq":"5"}`, 400},
		{"POST", "/v1/revocations/ack", "rs", long + `{"epoch":3,"seq":5}`, 400},
		{"POST", "/v1/revocations/ack", "rs", ``, 400},
		{"GET", "/v1/revocations/ack", "rs", ``, 405},
	} {
		r := httptest.NewRequest(tt.method, tt.target, strings.NewReader(tt.body))
		r.Header.Set("X-Test", tt.who)
		r.Header.Set("Content-Type", "application/json; charset=utf-8")
		w := httptest.NewRecorder()
		s.mux.ServeHTTP(w, r)
		if w.Code != tt.want {
			t.Errorf("%s %s as %q: %d %s, want %d", tt.method, tt.target, tt.who, w.Code, w.Body, tt.want)
		}
		var p struct{ Type, Title, Code, Ref *string }
		if w.Code == http.StatusGone && (json.Unmarshal(w.Body.Bytes(), &p) != nil || p.Type == nil || p.Title == nil || p.Code == nil || *p.Code != "feed_gone" || p.Ref == nil) {
			t.Errorf("it is no problem as the API has them: %s", w.Body)
		}
	}
}

// TestStreamsOfOneClient: one client cannot take all the streams there are, with
// however many keys.
func TestStreamsOfOneClient(t *testing.T) {
	s := newServer(t, nil)
	leave := func() {}
	for i := range maxStreams {
		_, l, err := s.subscribe(t.Context(), Caller{Client: "greedy", Instance: strconv.Itoa(i), Audiences: []string{audA}}, audA, 3, 0)
		if err != nil {
			t.Fatalf("stream %d: %v", i, err)
		}
		leave = l
	}
	again := Caller{Client: "greedy", Instance: "another", Audiences: []string{audA}}
	if _, _, err := s.subscribe(t.Context(), again, audA, 3, 0); !errors.Is(err, errStreams) {
		t.Errorf("one stream too many: %v", err)
	}
	if _, _, err := s.subscribe(t.Context(), Caller{Client: "modest", Audiences: []string{audA}}, audA, 3, 0); err != nil {
		t.Errorf("another client is crowded out: %v", err)
	}
	leave()
	if _, _, err := s.subscribe(t.Context(), again, audA, 3, 0); err != nil {
		t.Errorf("after one was closed: %v", err)
	}
}
