package trust

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// TestGoingBackWitness is TestGoingBack with a witness as the only one that remembers:
// no enforcement point runs, and every file of the deployment is yesterday's. It is
// noticed before anybody is served.
func TestGoingBackWitness(t *testing.T) {
	beside(t)
	for name, postgres := range map[string]bool{"sqlite": false, "postgres": true} {
		t.Run(name, func(t *testing.T) {
			beside(t)
			dsn := ""
			if postgres {
				dsn = pgtest.Start(t)
			}
			y := &yesterday{world: newWorld(t, t.TempDir(), dsn, nil), t: t}
			y.witnessed()
			y.make()
			y.copy()
			y.today().Close() // the enforcement point ends with what it knew
			y.stop()
			y.cosigned()
			out, err := y.command("audit", "export").Output()
			check(t, err)
			export := filepath.Join(t.TempDir(), "export.jsonl")
			check(t, os.WriteFile(export, out, 0o600))
			y.kill()
			y.putBack()
			y.launch()
			took := y.noticed("witness w1 has a checkpoint of")
			if said := y.run.Said(); strings.Contains(said, "an enforcement point has seen") {
				t.Errorf("it was not the witness: %s", tail(said))
			}
			report(t, "going back noticed by a witness, "+engine(dsn), "%s after the start", took.Round(100*time.Millisecond))
			y.silent()
			y.must("quarantine", "leave", "--complete") // refused: not replayed yet
			y.says("restore", "replay", export)
			y.says("quarantine", "leave", "--complete")
			y.ready()
			v := y.verifier()
			y.nothingRevived(v)
			y.restWorks(v)
			y.says("audit", "verify")
		})
	}
}

// witnessed starts a witness of the deployment's log, with files of its own, and
// configures it.
func (y *yesterday) witnessed() {
	t := y.t
	st := y.state(nil)
	vkey, err := st.VerificationKey()
	check(t, err)
	check(t, st.Close())
	dir, address := t.TempDir(), fmt.Sprintf("127.0.0.1:%d", freePort(t))
	who := []string{"--data", dir, "--name", "w.example.com/w1"}
	key, err := y.command(append([]string{"witness", "key"}, who...)...).Output()
	check(t, err)
	run, err := program.Start(y.command(append([]string{"witness", "serve", "--listen", address, "--log", vkey}, who...)...))
	check(t, err)
	t.Cleanup(run.Kill)
	policy := filepath.Join(dir, "policy")
	check(t, os.WriteFile(policy, fmt.Appendf(nil, "witness w1 %s http://%s\nquorum w1\n", strings.TrimSpace(string(key)), address), 0o600))
	y.configure(fmt.Sprintf("witness: {policy_file: %q}\negress: {allow: [%q]}\n", policy, address))
}

// cosigned starts the server and waits until the witness has cosigned what was done
// today.
func (y *yesterday) cosigned() {
	t := y.t
	st := y.state(nil)
	size, _, err := st.Store.LastCheckpoint(t.Context())
	check(t, err)
	check(t, st.Close())
	y.start()
	db := y.db()
	waitUntil(t, soon(20*time.Second), func() bool {
		var newest int64
		check(t, db.QueryRow(`SELECT COALESCE(MAX(size), 0) FROM cosignature`).Scan(&newest))
		return newest >= int64(size)
	})
	check(t, db.Close())
}
