// Package witness has our log watched by a witness that nobody here wrote:
// litewitness of filippo.io/torchwood, as its own program, over HTTP (C2SP
// tlog-witness).
package witness

import (
	"context"
	"crypto/ed25519"
	"database/sql"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"
	"time"

	"golang.org/x/crypto/ssh"
	"golang.org/x/crypto/ssh/agent"
	_ "modernc.org/sqlite" // the witness's own database

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/quorum"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/browser/chrome"
	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/internal/scratch"
)

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// litewitness is where scripts/tools.sh installs it.
func litewitness(t *testing.T) string {
	t.Helper()
	bin := os.Getenv("BIN")
	if bin == "" {
		bin = "../../../.bin"
	}
	path, err := filepath.Abs(filepath.Join(bin, "litewitness"))
	check(t, err)
	if _, err := os.Stat(path); err != nil {
		if chrome.Required() {
			t.Fatalf("litewitness is not installed (make tools): %v", err)
		}
		t.Skipf("litewitness is not installed (make tools): %v", err)
	}
	return path
}

// theirs is a running witness.
type theirs struct {
	t       *testing.T
	vkey    string // of tlog-cosignature
	address string
	db      string
}

// start runs the witness with a key in an agent, as its manual says.
func start(t *testing.T) *theirs {
	t.Helper()
	path := litewitness(t)
	dir, remove, err := scratch.Dir("witness") // sockets have short names
	check(t, err)
	t.Cleanup(remove)
	_, key, err := ed25519.GenerateKey(nil)
	check(t, err)
	signer, err := ssh.NewSignerFromKey(key)
	check(t, err)
	ring := agent.NewKeyring()
	check(t, ring.Add(agent.AddedKey{PrivateKey: key}))
	socket := filepath.Join(dir, "agent")
	l, err := net.Listen("unix", socket)
	check(t, err)
	t.Cleanup(func() { l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() { _ = agent.ServeAgent(ring, c) }()
		}
	}()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	w := &theirs{t: t, address: free.Addr().String(), db: filepath.Join(dir, "litewitness.db")}
	check(t, free.Close())
	run, err := program.Start(exec.Command(path, "-name", "witness.example.com/lite", "-db", w.db, "-ssh-agent", socket,
		"-key", ssh.FingerprintSHA256(signer.PublicKey()), "-listen", w.address))
	check(t, err)
	t.Cleanup(run.Kill)
	said := regexp.MustCompile(`vkey="?(witness\.example\.com/lite\+[0-9a-f]{8}\+[A-Za-z0-9+/=]+)`)
	w.until(func() bool {
		if m := said.FindStringSubmatch(run.Said()); m != nil {
			w.vkey = m[1]
		}
		c, err := net.Dial("tcp", w.address)
		if err == nil {
			err = c.Close()
		}
		return w.vkey != "" && err == nil
	}, run.Said)
	return w
}

func (w *theirs) until(ok func() bool, said func() string) {
	w.t.Helper()
	for end := time.Now().Add(time.Minute); !ok(); time.Sleep(20 * time.Millisecond) {
		if time.Now().After(end) {
			w.t.Fatalf("it did not come to be: %s", said())
		}
	}
}

// knows tells the witness of a log, as its witnessctl does.
func (w *theirs) knows(vkey string) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.db+"?_pragma=busy_timeout(10000)")
	check(w.t, err)
	defer db.Close()
	origin, _, _ := strings.Cut(vkey, "+")
	for _, s := range [][]any{
		{`INSERT INTO log (origin, tree_size, tree_hash) VALUES (?, 0, '47DEQpj8HBSa+/TImW+5JCeuQeRkm5NMpJWZG3hSuFU=')`, origin},
		{`INSERT INTO key (origin, key) VALUES (?, ?)`, origin, vkey},
	} {
		_, err := db.Exec(s[0].(string), s[1:]...)
		check(w.t, err)
	}
}

// has is the size that the witness knows a log to have.
func (w *theirs) has(origin string) (size uint64) {
	w.t.Helper()
	db, err := sql.Open("sqlite", "file:"+w.db+"?_pragma=busy_timeout(10000)")
	check(w.t, err)
	defer db.Close()
	check(w.t, db.QueryRow(`SELECT tree_size FROM log WHERE origin = ?`, origin).Scan(&size))
	return size
}

// ours is a deployment that the witness watches.
type ours struct {
	t   *testing.T
	cfg *config.Config
}

func (o *ours) open() *server.State {
	o.t.Helper()
	st, err := server.OpenState(o.t.Context(), o.cfg, server.Options{Migrate: true, Reserve: 1})
	check(o.t, err)
	return st
}

// grow runs the server until n more records are under a checkpoint of its.
func (o *ours) grow(n int) {
	o.t.Helper()
	st := o.open()
	for range n {
		check(o.t, st.Seed(o.t.Context(), audit.RefusalsCounted))
	}
	s, err := server.New(st)
	check(o.t, err)
	ln, err := net.Listen("tcp", "127.0.0.1:0")
	check(o.t, err)
	ctx, stop := context.WithCancel(o.t.Context())
	ended := make(chan error, 1)
	go func() { ended <- s.Run(ctx, server.Listeners{Public: ln}) }()
	for end := time.Now().Add(time.Minute); ; time.Sleep(20 * time.Millisecond) {
		c, err := st.Store.Counts(o.t.Context())
		check(o.t, err)
		if c.Pending == 0 && c.Signed == c.Records {
			break
		}
		if time.Now().After(end) {
			o.t.Fatalf("the log is not signed: %+v", c)
		}
	}
	stop()
	check(o.t, <-ended)
	check(o.t, st.Close())
}

// asked has the witness asked about the newest checkpoint; faults is what it says
// against it. Cosignatures are verified by our code before they count.
func (o *ours) asked() (size uint64, agree []string, faults []error) {
	o.t.Helper()
	st := o.open()
	defer func() { check(o.t, st.Close()) }()
	agree, faults, err := st.AskWitnesses(o.t.Context())
	check(o.t, err)
	size, _, err = st.Store.LastCheckpoint(o.t.Context())
	check(o.t, err)
	return size, agree, faults
}

// TestLitewitness: it cosigns our checkpoints, each with the proof that it extends the
// one before; it refuses one of a log that went back or forked, and of a log that it
// does not know; and cosignatures by another key than the policy names do not count.
func TestLitewitness(t *testing.T) {
	w := start(t)
	dir := t.TempDir()
	policy := filepath.Join(dir, "policy")
	names := func(vkey string) {
		check(t, os.WriteFile(policy, fmt.Appendf(nil, "witness lite %s http://%s\ngroup g 1 lite\nquorum g\n", vkey, w.address), 0o600))
	}
	names(w.vkey)
	o := &ours{t: t}
	var err error
	o.cfg, err = config.Parse(fmt.Appendf(nil, "issuer: https://id.example.com\nlisten: {address: \"127.0.0.1:0\"}\ndatabase: {sqlite: %[1]s/db}\ndata_dir: %[1]s/data\nkeys: {kek_file: %[1]s/kek.json}\nwitness: {policy_file: %[2]s}\negress: {allow: [%[3]q]}\n", dir, policy, w.address), nil)
	check(t, err)
	o.grow(5)
	st := o.open()
	vkey, err := st.VerificationKey()
	check(t, err)
	check(t, st.Close())
	if _, agree, faults := o.asked(); len(faults) != 1 || len(agree) != 0 {
		t.Errorf("a log that it does not know: %v %v", agree, faults)
	}
	w.knows(vkey)
	origin, _, _ := strings.Cut(vkey, "+")
	for range 3 { // from nothing, and each time from where it was
		size, agree, faults := o.asked()
		if len(agree) != 1 || len(faults) != 0 || w.has(origin) != size {
			t.Fatalf("%d rows, the witness has %d: %v %v", size, w.has(origin), agree, faults)
		}
		o.grow(7)
	}
	kept := map[string][]byte{}
	for _, name := range []string{"db", "data/anchor.json", "data/checkpoint"} {
		kept[name], err = os.ReadFile(filepath.Join(dir, name))
		check(t, err)
	}
	o.grow(5)
	size, agree, faults := o.asked()
	if len(agree) != 1 || len(faults) != 0 {
		t.Fatalf("%v %v", agree, faults)
	}

	public, _, err := ed25519.GenerateKey(nil)
	check(t, err)
	other, err := quorum.NewKey("witness.example.com/lite", public)
	check(t, err)
	names(other.String())
	if _, agree, faults := o.asked(); len(agree) != 0 || len(faults) != 1 {
		t.Errorf("by another witness: %v %v", agree, faults)
	}
	names(w.vkey)
	if _, agree, faults := o.asked(); len(agree) != 1 || len(faults) != 0 { // control
		t.Fatalf("%v %v", agree, faults)
	}

	for _, more := range []int{0, 60} { // it has gone back, and it is another one of more rows
		for _, suffix := range []string{"-wal", "-shm"} {
			_ = os.Remove(filepath.Join(dir, "db"+suffix))
		}
		for name, b := range kept { // nothing here remembers
			check(t, os.WriteFile(filepath.Join(dir, name), b, 0o600))
		}
		if more > 0 {
			o.grow(more)
		}
		if now, agree, faults := o.asked(); len(agree) != 0 || len(faults) != 1 || w.has(origin) != size {
			t.Errorf("%d rows, the witness has %d of another: %v %v", now, w.has(origin), agree, faults)
		}
	}
}
