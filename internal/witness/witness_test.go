package witness

import (
	"bytes"
	"context"
	"crypto/ed25519"
	"encoding/base64"
	"errors"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/quorum"
)

const origin = "log.example.com/log/1"

func check(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// aLog is a log that grows, or forks.
type aLog struct {
	tiles  map[string][]byte
	leaves [][32]byte
	signer *audit.CheckpointSigner
	vkey   string
}

func (l *aLog) Tile(_ context.Context, level int, n uint64) ([]byte, error) {
	b, ok := l.tiles[fmt.Sprint(level, "/", n)]
	if !ok {
		return nil, audit.ErrNoTile
	}
	return b, nil
}

func newLog(t testing.TB) *aLog {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	l := &aLog{tiles: map[string][]byte{}}
	l.signer, err = audit.NewCheckpointSigner(origin, private)
	check(t, err)
	l.vkey, err = audit.VKey(origin, public)
	check(t, err)
	return l
}

// fork is the log as it was at a size, signed by the same key.
func (l *aLog) fork(t testing.TB, size int) *aLog {
	t.Helper()
	f := &aLog{tiles: map[string][]byte{}, signer: l.signer, vkey: l.vkey}
	f.add(t, l.leaves[:size]...)
	return f
}

func (l *aLog) add(t testing.TB, leaves ...[32]byte) {
	t.Helper()
	_, tiles, err := audit.Integrate(t.Context(), l, uint64(len(l.leaves)), leaves)
	check(t, err)
	for _, tile := range tiles {
		l.tiles[fmt.Sprint(tile.Level, "/", tile.N)] = tile.Data
	}
	l.leaves = append(l.leaves, leaves...)
}

func (l *aLog) grow(t testing.TB, n int, what string) (size uint64, checkpoint []byte) {
	t.Helper()
	for range n {
		l.add(t, audit.LeafHash(fmt.Append(nil, what, len(l.leaves))))
	}
	size = uint64(len(l.leaves))
	root, err := audit.Root(t.Context(), l, size)
	check(t, err)
	checkpoint, err = audit.SignCheckpoint(l.signer, origin, size, root)
	check(t, err)
	return size, checkpoint
}

func (l *aLog) prove(size uint64) func(context.Context, uint64) ([][32]byte, error) {
	return func(ctx context.Context, old uint64) ([][32]byte, error) { return audit.Consistency(ctx, l, old, size) }
}

// aWitness is one of ours on a socket of its own.
type aWitness struct {
	quorum.Witness
	dir     string
	private ed25519.PrivateKey
	srv     *httptest.Server
}

func newWitness(t testing.TB, name string, logs ...string) *aWitness {
	t.Helper()
	public, private, err := ed25519.GenerateKey(nil)
	check(t, err)
	k, err := quorum.NewKey(name, public)
	check(t, err)
	w := &aWitness{Witness: quorum.Witness{Name: name, Key: k}, dir: t.TempDir(), private: private}
	w.start(t, logs...)
	return w
}

func (w *aWitness) start(t testing.TB, logs ...string) {
	t.Helper()
	s, err := NewServer(Config{Key: w.Key, Private: w.private, Logs: logs, Dir: w.dir})
	check(t, err)
	w.srv = httptest.NewServer(s)
	t.Cleanup(w.srv.Close)
	w.URL = w.srv.URL + "/"
}

func newClient() *Client { return &Client{HTTP: http.DefaultClient, Now: time.Now} }

// TestWitness: a witness follows a log, from whatever size the client thinks that it
// knows, and cosigns nothing that does not extend what it cosigned before, also after
// it was started again.
func TestWitness(t *testing.T) {
	l := newLog(t)
	w := newWitness(t, "witness.example.com/w1", l.vkey)
	c := newClient()
	var at uint64
	for i, n := range []int{0, 3, 0, 300, 1, 255} {
		size, text := l.grow(t, n, "x")
		for _, old := range []uint64{at, 0, size} {
			got, err := c.Add(t.Context(), w.Witness, text, size, min(old, size), l.prove(size))
			if err != nil || got.Key.String() != w.Key.String() || time.Since(got.At) > time.Minute {
				t.Fatalf("%d, from %d: %+v, %v", i, old, got, err)
			}
			kept, err := c.Last(t.Context(), w.Witness, origin)
			check(t, err)
			if list, err := quorum.Cosignatures(kept, []quorum.Key{w.Key}); err != nil || len(list) != 1 || !bytes.HasPrefix(kept, text) {
				t.Errorf("kept: %q, %v", kept, err)
			}
		}
		at = size
	}
	last, err := c.Last(t.Context(), w.Witness, origin)
	check(t, err)
	refusals := func() {
		t.Helper()
		for _, from := range []int{0, 1, 302, 303, 304, 558} {
			f := l.fork(t, from)
			for _, n := range []int{559 - from, 800 - from} {
				size, text := f.grow(t, n, "another ")
				if got, err := c.Add(t.Context(), w.Witness, text, size, 0, f.prove(size)); !errors.Is(err, ErrForked) || got.Line != "" {
					t.Errorf("a fork from %d to %d: %+v, %v", from, size, got, err)
				}
				f = l.fork(t, from)
			}
		}
		back := l.fork(t, 303)
		size, text := back.grow(t, 0, "")
		var ahead *AheadError
		if _, err := c.Add(t.Context(), w.Witness, text, size, size, back.prove(size)); !errors.As(err, &ahead) || ahead.Size != 559 {
			t.Errorf("a rollback: %v", err)
		}
		if now, err := c.Last(t.Context(), w.Witness, origin); err != nil || !bytes.Equal(now, last) {
			t.Errorf("a refusal changed what is kept: %v", err)
		}
	}
	refusals()
	w.srv.Close()
	w.start(t, l.vkey)
	refusals()
	size, text := l.grow(t, 7, "x")
	if _, err := c.Add(t.Context(), w.Witness, text, size, at, l.prove(size)); err != nil {
		t.Errorf("after all that: %v", err)
	}
}

// TestAnswers: the statuses of the protocol, each from a request of its own.
func TestAnswers(t *testing.T) {
	l, other := newLog(t), newLog(t)
	w := newWitness(t, "w", l.vkey)
	size, text := l.grow(t, 9, "x")
	post := func(body []byte) (int, string, string) {
		t.Helper()
		resp, err := http.Post(w.URL+"add-checkpoint", "", bytes.NewReader(body))
		check(t, err)
		defer resp.Body.Close()
		b, err := io.ReadAll(resp.Body)
		check(t, err)
		return resp.StatusCode, resp.Header.Get("Content-Type"), string(b)
	}
	_, foreign := other.grow(t, 9, "x")
	unknown := bytes.Replace(text, []byte(origin), []byte("other.example.com"), 1)
	hash := base64.StdEncoding.EncodeToString(make([]byte, 32)) + "\n"
	for name, c := range map[string]struct {
		body []byte
		want int
	}{
		"nothing":           {nil, 400},
		"no empty line":     {[]byte("old 0\n" + string(text[1:])), 400},
		"no old size":       {append([]byte("\n"), text...), 400},
		"a leading zero":    {append([]byte("old 00\n\n"), text...), 400},
		"too many hashes":   {append([]byte("old 0\n"+strings.Repeat(hash, 64)+"\n"), text...), 400},
		"not a hash":        {append([]byte("old 0\nAAAA\n\n"), text...), 400},
		"too long":          {bytes.Repeat([]byte("x"), maxRequest+9), 400},
		"larger old size":   {Request{Old: size + 1, Checkpoint: text}.Append(nil), 400},
		"another log":       {Request{Checkpoint: unknown}.Append(nil), 404},
		"another key":       {Request{Checkpoint: foreign}.Append(nil), 403},
		"changed":           {Request{Checkpoint: bytes.Replace(text, []byte("\n9\n"), []byte("\n8\n"), 1)}.Append(nil), 403},
		"a proof from zero": {Request{Proof: make([][32]byte, 1), Checkpoint: text}.Append(nil), 422},
		"another old size":  {Request{Old: 3, Checkpoint: text}.Append(nil), 409},
	} {
		if got, kind, body := post(c.body); got != c.want || got == 409 && (kind != "text/x.tlog.size" || body != "0\n") {
			t.Errorf("%s: %d %s %q, want %d", name, got, kind, body, c.want)
		}
	}
	if got, _, body := post(Request{Checkpoint: text}.Append(nil)); got != 200 || !strings.HasPrefix(body, "— w ") {
		t.Fatalf("the right one: %d %s", got, body)
	}
	if got, kind, body := post(Request{Checkpoint: text}.Append(nil)); got != 409 || kind != "text/x.tlog.size" || body != "9\n" {
		t.Errorf("again from zero: %d %s %q", got, kind, body)
	}
	bigger, more := l.grow(t, 20, "x")
	if got, _, _ := post(Request{Old: 9, Proof: make([][32]byte, 2), Checkpoint: more}.Append(nil)); got != 422 {
		t.Errorf("a proof of nothing: %d", got)
	}
	_ = bigger
	resp, err := http.Get(w.URL + "add-checkpoint")
	check(t, err)
	resp.Body.Close()
	if resp.StatusCode != 405 {
		t.Errorf("GET: %d", resp.StatusCode)
	}
}

// TestRace: of many submissions at once none takes the witness back.
func TestRace(t *testing.T) {
	l := newLog(t)
	w := newWitness(t, "w", l.vkey)
	var wg sync.WaitGroup
	for i := range 24 {
		size, text := l.grow(t, 1+i%3, "x")
		f := l.fork(t, int(size))
		wg.Go(func() {
			_, err := newClient().Add(t.Context(), w.Witness, text, size, 0, f.prove(size))
			var ahead *AheadError
			if err != nil && !errors.As(err, &ahead) && !strings.Contains(err.Error(), "another size each time") {
				t.Error(err)
			}
		})
	}
	wg.Wait()
	size, text := l.grow(t, 0, "")
	if _, err := newClient().Add(t.Context(), w.Witness, text, size, 0, l.prove(size)); err != nil {
		t.Error(err)
	}
}

// TestLies: what a witness may not make a client believe.
func TestLies(t *testing.T) {
	l := newLog(t)
	size, text := l.grow(t, 9, "x")
	w := newWitness(t, "w", l.vkey)
	body, _, err := quorum.Body(text)
	check(t, err)
	good := quorum.Cosign(w.Key, w.private, body, time.Now())
	stranger := newWitness(t, "w", l.vkey)
	for name, c := range map[string]struct {
		status     int
		kind, body string
		ok         bool
	}{
		"the truth":          {200, "text/plain", good, true},
		"with another's":     {200, "text/plain", quorum.Cosign(stranger.Key, stranger.private, body, time.Now()) + good, true},
		"another's only":     {200, "text/plain", quorum.Cosign(stranger.Key, stranger.private, body, time.Now()), false},
		"of another text":    {200, "text/plain", quorum.Cosign(w.Key, w.private, []byte("x\n1\n"), time.Now()), false},
		"of tomorrow":        {200, "text/plain", quorum.Cosign(w.Key, w.private, body, time.Now().Add(24*time.Hour)), false},
		"nothing":            {200, "text/plain", "", false},
		"a page":             {200, "text/html", "<html>", false},
		"an error":           {500, "text/plain", good, false},
		"a size, elsewhere":  {200, "text/x.tlog.size", "3\n", false},
		"no size":            {409, "text/x.tlog.size", "", false},
		"not a size":         {409, "text/x.tlog.size", "x\n", false},
		"a size with a zero": {409, "text/x.tlog.size", "03\n", false},
		"a size without":     {409, "text/plain", "3\n", false},
		"always another":     {409, "text/x.tlog.size", "3\n", false},
		"ahead":              {409, "text/x.tlog.size", "10\n", false},
	} {
		srv := httptest.NewServer(http.HandlerFunc(func(rw http.ResponseWriter, _ *http.Request) {
			rw.Header().Set("Content-Type", c.kind)
			rw.WriteHeader(c.status)
			io.WriteString(rw, c.body)
		}))
		v := w.Witness
		v.URL = srv.URL
		got, err := newClient().Add(t.Context(), v, text, size, 0, l.prove(size))
		srv.Close()
		if (err == nil) != c.ok || !c.ok && got.Line != "" || c.ok && got.Line != good {
			t.Errorf("%s: %+v, %v", name, got, err)
		}
	}
}

// TestDamaged: a witness that cannot read what it cosigned does not begin anew.
func TestDamaged(t *testing.T) {
	l := newLog(t)
	w := newWitness(t, "w", l.vkey)
	size, text := l.grow(t, 9, "x")
	_, err := newClient().Add(t.Context(), w.Witness, text, size, 0, l.prove(size))
	check(t, err)
	path := filepath.Join(w.dir, fileName(origin))
	check(t, os.WriteFile(path, []byte("x"), 0o600))
	if _, err := NewServer(Config{Key: w.Key, Private: w.private, Logs: []string{l.vkey}, Dir: w.dir}); err == nil {
		t.Error("it starts")
	}
	// And one that cannot keep what it cosigns does not cosign.
	check(t, os.WriteFile(path, text, 0o600))
	w.start(t, l.vkey)
	check(t, os.Rename(w.dir, w.dir+"-gone"))
	size, text = l.grow(t, 1, "x")
	if got, err := newClient().Add(t.Context(), w.Witness, text, size, 9, l.prove(size)); err == nil || got.Line != "" {
		t.Errorf("it cosigned what it could not keep: %+v", got)
	}
	check(t, os.Rename(w.dir+"-gone", w.dir))
}

func gitRemote(t testing.TB) string {
	t.Helper()
	if _, err := exec.LookPath("git"); err != nil {
		t.Skip("there is no git")
	}
	dir := filepath.Join(t.TempDir(), "remote.git")
	out, err := exec.Command("git", "init", "--quiet", "--bare", dir).CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	out, err = exec.Command("git", "--git-dir="+dir, "config", "receive.denyNonFastForwards", "true").CombinedOutput()
	if err != nil {
		t.Fatalf("%v %s", err, out)
	}
	return dir
}

// TestKeepers: what is kept comes back byte for byte, a log beside another, and a git
// remote has every checkpoint that it was ever given.
func TestKeepers(t *testing.T) {
	l := newLog(t)
	remote := gitRemote(t)
	git := Git{Remote: remote, Dir: filepath.Join(t.TempDir(), "own.git")}
	for _, k := range []Keeper{File{filepath.Join(t.TempDir(), "kept")}, git} {
		if text, err := k.Last(t.Context(), origin); err != nil || text != nil {
			t.Fatalf("%s at first: %q, %v", k.Name(), text, err)
		}
		for range 3 {
			_, text := l.grow(t, 5, "x")
			check(t, k.Keep(t.Context(), origin, text))
			if got, err := k.Last(t.Context(), origin); err != nil || !bytes.Equal(got, text) {
				t.Errorf("%s gives %q, %v", k.Name(), got, err)
			}
		}
	}
	check(t, git.Keep(t.Context(), "other.example.com", []byte("o\n")))
	again := Git{Remote: remote, Dir: filepath.Join(t.TempDir(), "another.git")} // another replica
	for name, want := range map[string]string{"other.example.com": "o\n", "third.example.com": ""} {
		if got, err := again.Last(t.Context(), name); err != nil || string(got) != want {
			t.Errorf("%s: %q, %v", name, got, err)
		}
	}
	_, text := l.grow(t, 1, "x")
	check(t, again.Keep(t.Context(), origin, text))
	check(t, git.Keep(t.Context(), origin, text))
	out, err := exec.Command("git", "--git-dir="+remote, "rev-list", "--count", "checkpoints").Output()
	if check(t, err); strings.TrimSpace(string(out)) != "6" {
		t.Errorf("%s commits", out)
	}
	for _, bad := range []string{"", "--upload-pack=touch /tmp/x", "ext::sh -c true", filepath.Join(t.TempDir(), "none.git")} {
		g := Git{Remote: bad, Dir: filepath.Join(t.TempDir(), "own.git")}
		if _, err := g.Last(t.Context(), origin); err == nil {
			t.Errorf("%q is a remote", bad)
		}
	}
	if n := (Git{Remote: "https://me:hunter2@git.example.com/x"}).Name(); strings.Contains(n, "hunter2") {
		t.Error(n)
	}
}

func FuzzParseRequest(f *testing.F) {
	f.Add(Request{Old: 5, Proof: make([][32]byte, 2), Checkpoint: []byte("x\n1\n\n")}.Append(nil))
	f.Add([]byte("old 0\n\nx"))
	f.Fuzz(func(t *testing.T, b []byte) {
		r, err := ParseRequest(b)
		if err != nil {
			if r.Old != 0 || r.Proof != nil || r.Checkpoint != nil {
				t.Error("an error comes with a request")
			}
			return
		}
		if !bytes.Equal(r.Append(nil), b) {
			t.Errorf("%q is another form of %q", b, r.Append(nil))
		}
	})
}
