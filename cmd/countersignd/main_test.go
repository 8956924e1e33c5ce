package main

import (
	"context"
	"database/sql"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/server"
)

func TestMain(m *testing.M) {
	testscript.Main(m, map[string]func(){"countersignd": main})
}

// deployment is the configuration that scripts work on.
const deployment = `issuer: https://id.example.com
listen:
  address: 127.0.0.1:0
database:
  sqlite: %[1]s/db
data_dir: %[1]s/data
keys:
  kek_file: %[1]s/kek.json
`

func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			path := filepath.Join(e.WorkDir, "countersignd.yaml")
			e.Vars = append(e.Vars, "COUNTERSIGN_CONFIG="+path, "HOME="+e.WorkDir, "XDG_STATE_HOME="+filepath.Join(e.WorkDir, "state"), "LANG=C.UTF-8")
			return os.WriteFile(path, fmt.Appendf(nil, deployment, e.WorkDir), 0o600)
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){
			"exits": cmdExits, "mode": cmdMode, "sequence": cmdSequence, "flip": cmdFlip, "setup": cmdSetup, "lines": cmdLines,
			"env-file": cmdEnvFile, "publish": cmdPublish,
		},
	})
}

// exits CODE PROGRAM ARGS...: runs the program, which ends with the code.
func cmdExits(ts *testscript.TestScript, _ bool, args []string) {
	err := ts.Exec(args[1], args[2:]...)
	code := 0
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		code = exit.ExitCode()
	} else {
		ts.Check(err)
	}
	if strconv.Itoa(code) != args[0] {
		ts.Fatalf("exit code %d, want %s", code, args[0])
	}
}

// mode FILE MODE.
func cmdMode(ts *testscript.TestScript, _ bool, args []string) {
	info, err := os.Stat(ts.MkAbs(args[0]))
	ts.Check(err)
	if got := fmt.Sprintf("%04o", info.Mode().Perm()); got != args[1] {
		ts.Fatalf("%s: mode %s, want %s", args[0], got, args[1])
	}
}

// lines FILE N: the file has N lines.
func cmdLines(ts *testscript.TestScript, _ bool, args []string) {
	if got := strings.Count(ts.ReadFile(args[0]), "\n"); strconv.Itoa(got) != args[1] {
		ts.Fatalf("%s has %d lines, want %s", args[0], got, args[1])
	}
}

// open opens the deployment of the script.
func open(ts *testscript.TestScript) *server.State {
	cfg, err := config.Read(ts.Getenv("COUNTERSIGN_CONFIG"), nil)
	ts.Check(err)
	st, err := server.OpenState(context.Background(), cfg, server.Options{Migrate: true})
	ts.Check(err)
	return st
}

// sequence: numbers and signs what there is, as the server does all the time,
// and keeps the checkpoint beside the database.
func cmdSequence(ts *testscript.TestScript, _ bool, _ []string) {
	st := open(ts)
	defer st.Close()
	q, err := st.Sequencer(func(_ uint64, note []byte) {
		ts.Check(os.WriteFile(filepath.Join(st.Config.DataDir, "checkpoint"), note, 0o600))
	}, nil)
	ts.Check(err)
	for end := time.Now().Add(time.Minute); ; time.Sleep(10 * time.Millisecond) {
		_, err := q.Step(context.Background())
		ts.Check(err)
		n, err := st.Store.Counts(context.Background())
		ts.Check(err)
		if n.Pending == 0 && n.Records > 0 && n.Signed == n.Records {
			return
		}
		if time.Now().After(end) {
			ts.Fatalf("not signed: %+v", n)
		}
	}
}

// flip COLUMN SEQ: changes one bit of a record, as one could who owns the
// database.
func cmdFlip(ts *testscript.TestScript, _ bool, args []string) {
	db, err := sql.Open("sqlite", "file:"+filepath.Join(ts.Getenv("WORK"), "db")+"?_pragma=busy_timeout(10000)")
	ts.Check(err)
	defer db.Close()
	var b []byte
	ts.Check(db.QueryRow(`SELECT `+args[0]+` FROM audit WHERE seq = ?`, args[1]).Scan(&b))
	b[len(b)/2] ^= 1
	_, err = db.Exec(`UPDATE audit SET `+args[0]+` = ? WHERE seq = ?`, b, args[1])
	ts.Check(err)
}

// setup ok|used|gone FILE [administrator]: completes the set-up with the link in a file,
// and says what came of it. Dana is an administrator only if that is said.
func cmdSetup(ts *testscript.TestScript, _ bool, args []string) {
	u, err := url.Parse(strings.TrimSpace(ts.ReadFile(args[1])))
	ts.Check(err)
	st := open(ts)
	defer st.Close()
	p := account.Person{ID: id.New(id.Person), Subject: id.Random("sub_"), Name: "Dana", Username: "dana"}
	var groups []string
	if len(args) > 2 {
		admins, err := st.Store.GroupByName(context.Background(), group.Administrators)
		ts.Check(err)
		groups = append(groups, admins.ID)
	}
	_, err = st.Do.Do(context.Background(), act.Intent{
		Action: policy.SetupComplete, Kind: audit.SetupCompleted, Refs: act.Refs{Kind: policy.KindAnonymous, Presented: true},
		Spend: []once.Spend{{Purpose: once.Setup, Key: once.KeyOf(once.Setup, u.Fragment)}},
		Changes: func(*act.Facts, policy.Decision) (act.Effect, error) {
			return act.Effect{
				Changes: []act.Change{account.Create{Person: p, Groups: groups}, account.SetUp{Person: p.ID, At: time.Now()}},
				Parts:   []audit.Part{{Person: p.ID, Body: map[string]any{"name": p.Name}}},
			}, nil
		},
	})
	var gone *once.Gone
	got := "ok"
	if _, used := act.Spent(err); used {
		got = "used"
	} else if errors.As(err, &gone) {
		got = "gone"
	} else {
		ts.Check(err)
	}
	if got != args[0] {
		ts.Fatalf("the link is %s, want %s", got, args[0])
	}
}

// publish yes|no|nobody: dana publishes the default policies, and may or may not; or a set under
// which nobody may do anything comes to stand in the database.
func cmdPublish(ts *testscript.TestScript, _ bool, args []string) {
	st := open(ts)
	defer st.Close()
	head, err := st.Store.PolicyHead(context.Background())
	ts.Check(err)
	dana, err := st.Store.PersonByUsername(context.Background(), "dana")
	ts.Check(err)
	src, in := policy.Default(), act.Intent{
		Action: policy.PolicyPublish, Kind: audit.PolicyPublished, Refs: act.Refs{Kind: policy.KindPerson, Actor: dana.ID},
		Proofs: []assurance.Proof{{Method: assurance.Passkey, Subject: dana.ID, At: time.Now(), UserVerified: true, PhishingResistant: true}},
	}
	if args[0] == "nobody" {
		src = policy.Source{Files: []policy.File{{Name: "a.cedar", Text: `@id("nobody") @reason("r") forbid (principal, action, resource);`}}}
		in.Action, in.Refs, in.Proofs = policy.SandboxSeed, act.Refs{Kind: policy.KindSystem}, nil
	}
	in.Changes = func(*act.Facts, policy.Decision) (act.Effect, error) {
		return act.Effect{Changes: []act.Change{ruleset.Publish{Version: ruleset.Version{N: head + 1, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}}}}, nil
	}
	_, err = st.Do.Do(context.Background(), in)
	if args[0] == "no" && errors.Is(err, problem.Denied) {
		return
	}
	ts.Check(err)
	if args[0] == "no" {
		ts.Fatalf("they may")
	}
}

// env-file NAME FILE: sets a variable to the first line of a file.
func cmdEnvFile(ts *testscript.TestScript, _ bool, args []string) {
	line, _, _ := strings.Cut(ts.ReadFile(args[1]), "\n")
	ts.Setenv(args[0], line)
}
