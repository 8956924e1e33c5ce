package countersign

import (
	"context"
	"net/http"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/countersign-dev/countersign/internal/jose"
)

// bubble runs a test with an issuer in process and a clock of its own.
func bubble(t *testing.T, change func(*Config, *TestIssuer), test func(*testing.T, *TestIssuer, *Verifier)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		i := NewTestIssuer()
		i.URL = "https://id.example.com"
		cfg := Config{
			Issuer: i.URL, Audience: testAudience, AllowBearer: true,
			Client: ClientAuth{ID: i.clientID, Secret: i.secret}, HTTP: &http.Client{Transport: direct{i}},
		}
		if change != nil {
			change(&cfg, i)
		}
		v, err := New(t.Context(), cfg)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { v.Close(); i.Drop(); synctest.Wait() }()
		synctest.Wait()
		test(t, i, v)
	})
}

// tokenOf is a bearer token that descends from two nodes.
func (i *TestIssuer) tokenOf(a, b int) string {
	c := i.Claims(testAudience, nil, "")
	c.Lineage = []string{testHandle(a), testHandle(b)}
	return i.Token(c)
}

func check(t *testing.T, v *Verifier, token, want string) {
	t.Helper()
	if got := codeOf(second(v.Verify(request(t, "GET", "/", token, nil)))); got != want {
		t.Errorf("got %q, want %q; feed %+v", got, want, v.FeedStatus())
	}
}

func TestFeedRefusesWhatEnded(t *testing.T) {
	var frames []Frame
	bubble(t, func(c *Config, i *TestIssuer) {
		i.entries = []jose.Entry{jose.Ended(testHandle(7))}
		c.OnFrame = func(f Frame) { frames = append(frames, f) }
	}, func(t *testing.T, i *TestIssuer, v *Verifier) {
		if err := v.Ready(t.Context()); err != nil {
			t.Fatal(err)
		}
		mine, other := i.tokenOf(1, 2), i.tokenOf(1, 3)
		check(t, v, mine, "")
		check(t, v, i.tokenOf(6, 7), "invalid_token") // in the snapshot
		i.End(testHandle(2))
		synctest.Wait()
		check(t, v, mine, "invalid_token")
		check(t, v, i.tokenOf(2, 9), "invalid_token") // whatever its iat
		check(t, v, other, "")
		tok, err := v.Verify(request(t, "GET", "/", other, nil))
		if err != nil || v.Recheck(t.Context(), tok) != nil {
			t.Fatalf("held: %v", err)
		}
		i.with(func() {
			f := i.frame(i.seq, i.seq+1, 0, jose.Thawed(testHandle(2)), jose.Ended(testHandle(3)))
			i.seq++
			for ch := range i.streams {
				ch <- f
			}
		})
		synctest.Wait()
		check(t, v, mine, "")
		if got := codeOf(v.Recheck(t.Context(), tok)); got != "invalid_token" {
			t.Errorf("a held token that ended: %q", got)
		}
		if i.asked != 0 {
			t.Errorf("the issuer was asked %d times", i.asked)
		}
		i.with(func() {
			if !slices.Equal(i.acks, []int64{10, 13, 14}) {
				t.Errorf("acknowledged %v", i.acks)
			}
		})
		if len(frames) != 3 || !frames[0].Snapshot || frames[1].Seq != 13 || frames[2].Entries != 2 {
			t.Errorf("told %+v", frames)
		}
		if s := v.FeedStatus(); !s.Synced || !s.Connected || s.Seq != 14 || s.Rejected != 0 || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
	})
}

// Each fault makes the enforcement point connect again, and then take a
// snapshot; it never applies the frame, and knows everything in the end.
func TestFeedFaults(t *testing.T) {
	key := NewTestIssuer().key
	for name, tt := range map[string]struct {
		send     func(*TestIssuer) string // called with i.mu held
		snapshot bool                     // needed at once
	}{
		"lost":    {send: func(i *TestIssuer) string { i.seq += 4; return i.frame(i.seq-2, i.seq, 0) }},
		"doubled": {send: func(i *TestIssuer) string { return i.frame(i.seq-2, i.seq, 0, jose.Ended(testHandle(1))) }},
		"other audience": {send: func(i *TestIssuer) string {
			i.frameAud = "https://other.example"
			defer func() { i.frameAud = "" }()
			return i.frame(i.seq, i.seq+1, 0, jose.Ended(testHandle(1)))
		}},
		"other issuer": {send: func(i *TestIssuer) string {
			u := i.URL
			i.URL = "https://evil.example"
			defer func() { i.URL = u }()
			return i.frame(i.seq, i.seq+1, 0, jose.Ended(testHandle(1)))
		}},
		"other key": {send: func(i *TestIssuer) string {
			k := i.key
			i.key = key
			defer func() { i.key = k }()
			return i.frame(i.seq, i.seq+1, 0, jose.Ended(testHandle(1)))
		}},
		"access token":        {send: func(i *TestIssuer) string { return i.sign(jose.TypAccessToken, i.Claims(testAudience, nil, "")) }},
		"other epoch":         {send: func(i *TestIssuer) string { i.epoch++; return i.frame(i.seq, i.seq+1, 0, jose.Ended(testHandle(1))) }, snapshot: true},
		"old":                 {send: func(i *TestIssuer) string { return i.signAt(-2*time.Minute, jose.Ended(testHandle(1))) }},
		"earlier than before": {send: func(i *TestIssuer) string { return i.signAt(-2*time.Second, jose.Ended(testHandle(1))) }},
		"from the future":     {send: func(i *TestIssuer) string { return i.signAt(2*time.Minute, jose.Ended(testHandle(1))) }},
		"garbage":             {send: func(*TestIssuer) string { return "not.a.frame" }},
	} {
		t.Run(name, func(t *testing.T) {
			bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
				mine := i.tokenOf(1, 2)
				check(t, v, mine, "")
				var bad string
				i.with(func() { bad = tt.send(i) })
				i.Send(bad)
				synctest.Wait()
				check(t, v, mine, "")
				if s := v.FeedStatus(); s.Rejected != 1 || s.Connected {
					t.Errorf("after the frame: %+v", s)
				}
				i.with(func() { i.entries = append(i.entries, jose.Ended(testHandle(2))) }) // as if it had been lost
				time.Sleep(time.Second)
				synctest.Wait()
				if !v.FeedStatus().Connected {
					t.Fatalf("not connected again: %+v", v.FeedStatus())
				}
				i.with(func() {
					if want := map[bool]int{true: 2, false: 1}[tt.snapshot]; i.snaps != want {
						t.Errorf("%d snapshots, want %d", i.snaps, want)
					}
				})
				if !tt.snapshot {
					i.Send(bad) // a second one in a row: now a snapshot
					time.Sleep(2 * time.Second)
					synctest.Wait()
				}
				check(t, v, mine, "invalid_token")
			})
		})
	}
}

// signAt makes the next frame as of another time.
func (i *TestIssuer) signAt(d time.Duration, e ...jose.Entry) string {
	return i.sign(jose.TypFeed, jose.FeedFrame{
		Issuer: i.URL, Audience: jose.Audience{testAudience}, Epoch: i.epoch, Seq: i.seq + 1, Prev: i.seq,
		IssuedAt: jose.Date(time.Now().Add(d)), Entries: e,
	})
}

// A heartbeat sent again keeps nobody fresh.
func TestFeedReplayedHeartbeat(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		time.Sleep(5 * time.Second)
		var beat string
		i.with(func() { beat = i.frame(i.seq, i.seq, 0) })
		i.Send(beat)
		synctest.Wait()
		for range 8 {
			time.Sleep(4 * time.Second)
			i.Send(beat)
			synctest.Wait()
		}
		if s := v.FeedStatus(); s.Age != 32*time.Second || s.Frames != 10 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestFeedAge(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		routes := map[string]*route{
			"plain": {}, "sensitive": {sensitive: true}, "refuses": {outage: OutageRefuse}, "allows": {outage: OutageAllow},
			"sensitive, allows": {sensitive: true, outage: OutageAllow},
		}
		judge := func(want map[string]string) {
			t.Helper()
			c := i.Claims(testAudience, nil, "")
			e, err := v.known(t.Context(), i.Token(c), time.Now())
			if err != nil {
				t.Fatal(err)
			}
			for name, r := range routes {
				before := i.asked
				err := v.standing(t.Context(), e.token, r.sensitive, r.outage)
				got := codeOf(err)
				if i.asked != before {
					got = "asked " + got
				}
				if got != want[name] {
					t.Errorf("%s at age %s: got %q, want %q", name, v.FeedStatus().Age, got, want[name])
				}
			}
		}
		i.with(func() { i.gone, i.noSnapshot = true, true })
		time.Sleep(15 * time.Second)
		judge(map[string]string{})
		time.Sleep(time.Second)
		judge(map[string]string{"sensitive": "asked ", "sensitive, allows": "asked "})
		i.with(func() { i.askFail = true })
		judge(map[string]string{"sensitive": "asked temporarily_unavailable", "sensitive, allows": "asked temporarily_unavailable"})
		time.Sleep(5*time.Minute - 16*time.Second)
		judge(map[string]string{"sensitive": "asked temporarily_unavailable", "sensitive, allows": "asked temporarily_unavailable"})
		time.Sleep(time.Second)
		i.with(func() { i.askFail = false })
		judge(map[string]string{"plain": "asked ", "sensitive": "asked ", "refuses": "temporarily_unavailable", "sensitive, allows": "asked "})
		i.with(func() { i.gone, i.noSnapshot = false, false })
		time.Sleep(10 * time.Second)
		judge(map[string]string{})
	})
}

func TestFeedBeforeTheFirstSnapshot(t *testing.T) {
	bubble(t, func(_ *Config, i *TestIssuer) { i.noSnapshot = true }, func(t *testing.T, i *TestIssuer, v *Verifier) {
		mine := i.tokenOf(1, 2)
		check(t, v, mine, "")
		if i.asked != 1 {
			t.Errorf("asked %d times", i.asked)
		}
		i.with(func() { i.ended[mine] = true })
		check(t, v, mine, "invalid_token")
		i.with(func() { i.askFail = true })
		check(t, v, mine, "temporarily_unavailable")
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		if err := v.Ready(ctx); err == nil || v.FeedStatus().LastError == "" {
			t.Errorf("ready without a snapshot: %v", err)
		}
		i.with(func() { i.noSnapshot = false })
		time.Sleep(10 * time.Second)
		check(t, v, i.tokenOf(3, 4), "")
		v.Close()
		check(t, v, i.tokenOf(3, 4), "temporarily_unavailable")
	})
}

func TestFeedReconnects(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		state := func() (opened []string, snaps int) {
			i.with(func() { opened, snaps = slices.Clone(i.opened), i.snaps })
			return
		}
		i.End(testHandle(1))
		synctest.Wait()
		i.Drop()
		time.Sleep(time.Second)
		synctest.Wait()
		if opened, snaps := state(); !slices.Equal(opened, []string{"10", "13"}) || snaps != 1 {
			t.Errorf("opened %v, %d snapshots", opened, snaps)
		}
		time.Sleep(feedQuiet + time.Second) // nothing comes: the connection counts as dead
		synctest.Wait()
		if opened, _ := state(); len(opened) != 3 || v.FeedStatus().LastError == "" {
			t.Errorf("silence: opened %v, %+v", opened, v.FeedStatus())
		}
		i.with(func() { i.gone = true })
		i.Drop()
		time.Sleep(5 * time.Second)
		if _, snaps := state(); snaps < 2 {
			t.Error("410 and no snapshot")
		}
		before, _ := state()
		time.Sleep(time.Minute)
		after, _ := state()
		if tries := len(after) - len(before); tries < 12 || tries > 30 {
			t.Errorf("%d tries in a minute", tries)
		}
	})
}

// A snapshot that is older than what is known is not taken.
func TestFeedOldSnapshot(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		i.End(testHandle(2))
		synctest.Wait()
		i.with(func() { i.gone, i.seq, i.entries = true, 10, nil })
		i.Drop()
		time.Sleep(5 * time.Second)
		check(t, v, i.tokenOf(1, 2), "invalid_token")
		if s := v.FeedStatus(); s.Seq != 13 || s.Rejected == 0 {
			t.Errorf("status %+v", s)
		}
	})
}

func TestFeedAllAndOverflow(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		before := i.tokenOf(1, 2)
		i.with(func() {
			f := i.frame(i.seq, i.seq, time.Now().Unix())
			for ch := range i.streams {
				ch <- f
			}
		})
		synctest.Wait()
		check(t, v, before, "invalid_token")
		time.Sleep(time.Second)
		check(t, v, i.tokenOf(1, 2), "")

		// More than can be held: nobody slips through.
		last := i.tokenOf(5, 6)
		v.feed.mu.Lock()
		for n := range maxEntries {
			v.feed.now[handle{1, byte(n), byte(n >> 8), byte(n >> 16)}] = struct{}{}
		}
		v.feed.mu.Unlock()
		i.End(testHandle(9))
		synctest.Wait()
		check(t, v, last, "invalid_token")
		if n := v.FeedStatus().Entries; n != 0 {
			t.Errorf("%d entries held", n)
		}
		time.Sleep(3 * time.Second)
		check(t, v, i.tokenOf(5, 6), "")
	})
}

func TestFeedEntriesLiveLongEnough(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		i.End(testHandle(2))
		started := time.Now()
		for v.FeedStatus(); time.Since(started) < 20*time.Minute; time.Sleep(5 * time.Second) {
			i.Heartbeat()
			synctest.Wait()
			v.feed.mu.RLock()
			_, held := v.feed.now[must(handleOf(testHandle(2)))]
			_, old := v.feed.old[must(handleOf(testHandle(2)))]
			v.feed.mu.RUnlock()
			if !held && !old {
				break
			}
		}
		if d := time.Since(started); d < 2*time.Second+5*time.Minute+time.Minute || d > 2*feedLife+time.Minute {
			t.Errorf("forgotten after %s", d)
		}
	})
}

func must[T any](v T, err error) T {
	if err != nil {
		panic(err)
	}
	return v
}

func TestFeedTokenIsRenewedInTime(t *testing.T) {
	bubble(t, nil, func(t *testing.T, i *TestIssuer, v *Verifier) {
		for range 12 { // an hour; the stream is cut every five minutes, as the server does
			for range 60 {
				time.Sleep(5 * time.Second)
				i.Heartbeat()
			}
			i.Drop()
		}
		time.Sleep(time.Second)
		if s := v.FeedStatus(); s.Snapshots != 1 || s.Age > 10*time.Second || s.LastError != "" {
			t.Errorf("status %+v", s)
		}
	})
}
