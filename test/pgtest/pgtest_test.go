package pgtest_test

import (
	"context"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/test/pgtest"
)

func TestMain(m *testing.M) {
	if os.Getenv("PGTEST_CHILD") != "" {
		child()
	}
	os.Exit(pgtest.Run(m))
}

func connect(t *testing.T, dsn string) *pgx.Conn {
	t.Helper()
	conn, err := pgx.Connect(t.Context(), dsn)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { conn.Close(context.Background()) })
	return conn
}

func query(t *testing.T, conn *pgx.Conn, sql string) (value string) {
	t.Helper()
	if err := conn.QueryRow(t.Context(), sql).Scan(&value); err != nil {
		t.Fatalf("%s: %v", sql, err)
	}
	return value
}

func TestEachCallerGetsAnEmptyDurableDatabase(t *testing.T) {
	first, second := pgtest.Start(t), pgtest.Start(t)
	if first == second {
		t.Fatalf("both callers share %s", first)
	}
	conn := connect(t, first)
	if os.Getenv("COUNTERSIGN_TEST_POSTGRES") == "" {
		want := map[string]string{"fsync": "on", "synchronous_commit": "on", "full_page_writes": "on", "max_connections": "200"}
		got := map[string]string{}
		for name := range want {
			got[name] = query(t, conn, "SHOW "+name)
		}
		if diff := cmp.Diff(want, got); diff != "" {
			t.Errorf("settings (-want +got):\n%s", diff)
		}
	}
	if got := query(t, conn, "SELECT pg_encoding_to_char(encoding) || ' ' || datcollate FROM pg_database WHERE datname = current_database()"); got != "UTF8 C" {
		t.Errorf("encoding and collation are %q, want UTF8 C", got)
	}
	if _, err := conn.Exec(t.Context(), "CREATE TABLE thing (id text PRIMARY KEY)"); err != nil {
		t.Fatal(err)
	}
	if got := query(t, connect(t, second), "SELECT count(*)::text FROM pg_tables WHERE tablename = 'thing'"); got != "0" {
		t.Error("a table made in one database is seen in the other")
	}
}

func TestDatabasesAreDroppedWithTheirTest(t *testing.T) {
	var dsn string
	t.Run("user", func(t *testing.T) {
		dsn = pgtest.Start(t)
		connect(t, dsn)
	})
	if dsn == "" {
		t.Skip("no PostgreSQL")
	}
	if conn, err := pgx.Connect(t.Context(), dsn); err == nil {
		conn.Close(t.Context())
		t.Error("the database outlives its test")
	}
}

func TestKilledServerKeepsWhatItAcknowledged(t *testing.T) {
	pgtest.Require(t)
	if _, err := pgtest.Locate(); err != nil {
		t.Skip("only a server of ours is killed")
	}
	server, err := pgtest.StartServer("")
	if err != nil {
		t.Fatal(err)
	}
	defer server.Stop()
	dsn, err := server.CreateDatabase(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	conn := connect(t, dsn)
	for _, sql := range []string{"CREATE TABLE thing (id text)", "INSERT INTO thing VALUES ('kept')"} {
		if _, err := conn.Exec(t.Context(), sql); err != nil {
			t.Fatal(err)
		}
	}
	before := server.PID()
	if err := server.Kill(); err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Exec(t.Context(), "SELECT 1"); err == nil {
		t.Error("a killed server answers")
	}
	if err := server.Restart(); err != nil {
		t.Fatal(err)
	}
	if server.PID() == before {
		t.Error("the process is the same after the kill")
	}
	if got := query(t, connect(t, dsn), "SELECT id FROM thing"); got != "kept" {
		t.Errorf("the row is %q, want kept", got)
	}
	if err := server.Restart(); err == nil {
		t.Error("a running server is started twice")
	}
	if err := server.Halt(); err != nil {
		t.Fatal(err)
	}
}

// child starts a server, says where, and waits to be killed.
func child() {
	server, err := pgtest.StartServer("")
	if err != nil {
		println(err.Error())
		os.Exit(1)
	}
	os.Stdout.WriteString(strconv.Itoa(server.PID()) + "\n")
	time.Sleep(time.Minute)
	os.Exit(1)
}

func TestServerDiesWithTheProcessThatStartedIt(t *testing.T) {
	pgtest.Require(t)
	if _, err := os.Stat("/proc/self/stat"); err != nil {
		t.Skip("only Linux ends a child with its parent")
	}
	if _, err := pgtest.Locate(); err != nil {
		t.Skip("only a server of ours is killed")
	}
	cmd := exec.Command(os.Args[0])
	cmd.Env = append(os.Environ(), "PGTEST_CHILD=1")
	cmd.Stderr = os.Stderr
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	buf := make([]byte, 32)
	n, _ := out.Read(buf)
	cmd.Process.Kill()
	cmd.Wait()
	pid, err := strconv.Atoi(strings.TrimSpace(string(buf[:n])))
	if err != nil {
		t.Fatalf("the child said %q", buf[:n])
	}
	deadline := time.Now().Add(time.Minute)
	for running(pid) {
		if time.Now().After(deadline) {
			if p, err := os.FindProcess(pid); err == nil {
				_ = p.Signal(syscall.SIGQUIT)
			}
			t.Fatal("the server outlives a killed test process")
		}
		time.Sleep(10 * time.Millisecond)
	}
}

// running reports whether the process exists and is no mere entry that waits
// to be collected.
func running(pid int) bool {
	stat, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	return err == nil && !strings.Contains(string(stat), ") Z ")
}
