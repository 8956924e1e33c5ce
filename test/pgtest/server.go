package pgtest

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/test/internal/scratch"
)

// startLimit is how long a server may take to accept connections, recovery
// after a kill included.
const startLimit = 60 * time.Second

// superuser owns the cluster that StartServer makes.
const superuser = "countersign"

// Server is one running PostgreSQL.
type Server struct {
	config *pgx.ConnConfig // for the database postgres

	bin, dir string // programs; data folder's parent. Empty: not ours to stop
	port     int
	password string
	owner    *owner
	process  *process
	remove   func()
	made     atomic.Int64
}

// Locate returns the folder of initdb and postgres: the first of PATH (links
// resolved, because initdb looks for its siblings) or else the newest of the
// places where distributions put them.
func Locate() (bin string, err error) {
	if path, err := exec.LookPath("initdb"); err == nil {
		if path, err = filepath.EvalSymlinks(path); err == nil && executable(filepath.Join(filepath.Dir(path), "postgres")) {
			return filepath.Dir(path), nil
		}
	}
	var found []string
	for _, pattern := range []string{"/usr/lib/postgresql/*/bin", "/usr/pgsql-*/bin", "/usr/local/pgsql/bin", "/opt/homebrew/opt/postgresql@*/bin"} {
		dirs, _ := filepath.Glob(pattern)
		for _, dir := range dirs {
			if executable(filepath.Join(dir, "initdb")) && executable(filepath.Join(dir, "postgres")) {
				found = append(found, dir)
			}
		}
	}
	if len(found) == 0 {
		return "", errors.New("PostgreSQL is not installed (no initdb found)")
	}
	return slices.MaxFunc(found, func(a, b string) int { return version(a) - version(b) }), nil
}

func executable(path string) bool {
	info, err := os.Stat(path)
	return err == nil && info.Mode()&0o111 != 0
}

// version reads the major version out of a programs' folder, 0 if none.
func version(dir string) int {
	digits := strings.FieldsFunc(dir, func(r rune) bool { return r < '0' || r > '9' })
	if len(digits) == 0 {
		return 0
	}
	n, _ := strconv.Atoi(digits[0])
	return n
}

// StartServer makes a cluster in a folder below dir ("": a temporary one) and
// starts it on a free port of 127.0.0.1. PostgreSQL refuses to run as root, so
// then it runs as postgres or nobody, and dir must let that user through. The
// server is stopped by Stop, and on Linux with this process.
func StartServer(dir string) (*Server, error) {
	bin, err := Locate()
	if err != nil {
		return nil, err
	}
	s := &Server{bin: bin, password: rand.Text()}
	if s.owner, err = findOwner(); err != nil {
		return nil, err
	}
	if dir == "" {
		s.dir, s.remove, err = scratch.Dir("pg")
	} else {
		s.dir, err = os.MkdirTemp(dir, "pg-")
		s.remove = func() { os.RemoveAll(s.dir) }
	}
	if err != nil {
		return nil, err
	}
	if err := s.initialise(); err != nil {
		s.remove()
		return nil, err
	}
	if err := s.startAnywhere(); err != nil {
		s.remove()
		return nil, err
	}
	return s, nil
}

// initialise makes the cluster. Only its making is not synced: a power cut
// during a test costs nothing, an unsynced commit would be another matter.
func (s *Server) initialise() error {
	secret := filepath.Join(s.dir, "password")
	if err := os.WriteFile(secret, []byte(s.password), 0o600); err != nil {
		return err
	}
	for _, path := range []string{s.dir, secret} {
		if err := s.owner.own(path); err != nil {
			return err
		}
	}
	cmd := exec.Command(filepath.Join(s.bin, "initdb"), "-D", s.data(), "-U", superuser,
		"--pwfile", secret, "--auth", "scram-sha-256", "-E", "UTF8", "--locale", "C", "--no-sync", "--no-instructions")
	cmd.Dir = s.dir
	s.owner.become(cmd)
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("initdb: %w\n%s", err, out)
	}
	return nil
}

func (s *Server) data() string { return filepath.Join(s.dir, "data") }
func (s *Server) log() string  { return filepath.Join(s.dir, "log") }

// startAnywhere takes a free port; another process may take it first, so a
// few are tried.
func (s *Server) startAnywhere() (err error) {
	for range 5 {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		if err != nil {
			return err
		}
		s.port = l.Addr().(*net.TCPAddr).Port
		l.Close()
		if s.config, err = pgx.ParseConfig(s.url("postgres")); err != nil {
			return err
		}
		if err = s.Restart(); err == nil {
			return nil
		}
		if said, _ := os.ReadFile(s.log()); !strings.Contains(string(said), "Address already in use") {
			return err
		}
	}
	return errors.New("no free port for PostgreSQL")
}

// Restart starts the server after Kill or Halt, on the same port and data, and
// returns once it accepts connections.
func (s *Server) Restart() error {
	if s.process != nil && !s.process.ended() {
		return errors.New("PostgreSQL is running")
	}
	log, err := os.OpenFile(s.log(), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	defer log.Close()
	args := []string{"-D", s.data(), "-p", strconv.Itoa(s.port), "-k", s.dir}
	for _, setting := range []string{
		"listen_addresses=127.0.0.1", "fsync=on", "synchronous_commit=on", "full_page_writes=on",
		"max_connections=200", "shared_buffers=32MB", "logging_collector=off", "lc_messages=C",
		"log_min_messages=warning", "timezone=UTC", "jit=off",
	} {
		args = append(args, "-c", setting)
	}
	cmd := exec.Command(filepath.Join(s.bin, "postgres"), args...)
	cmd.Dir, cmd.Stdout, cmd.Stderr = s.dir, log, log
	s.owner.become(cmd)
	if s.process, err = start(cmd); err != nil {
		return fmt.Errorf("start PostgreSQL: %w", err)
	}
	if err := s.ready(); err != nil {
		s.process.signal(syscall.SIGQUIT)
		<-s.process.exited
		said, _ := os.ReadFile(s.log())
		return fmt.Errorf("PostgreSQL does not answer: %w\n%s", err, said)
	}
	return nil
}

// ready waits for the first connection.
func (s *Server) ready() error {
	ctx, cancel := context.WithTimeout(context.Background(), startLimit)
	defer cancel()
	for {
		conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
		if err == nil {
			return conn.Close(ctx)
		}
		select {
		case <-s.process.exited:
			return fmt.Errorf("it ended: %w", err)
		case <-ctx.Done():
			return err
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// url is the connection string of a database of a server of ours.
func (s *Server) url(database string) string {
	u := url.URL{
		Scheme: "postgres", User: url.UserPassword(superuser, s.password),
		Host: net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)), Path: "/" + database, RawQuery: "sslmode=disable",
	}
	return u.String()
}

// CreateDatabase makes an empty database, UTF8 with collation "C", and returns
// its connection string.
func (s *Server) CreateDatabase(ctx context.Context) (dsn string, err error) {
	name := fmt.Sprintf("t%d_%d_%s", os.Getpid(), s.made.Add(1), strings.ToLower(rand.Text()[:6]))
	err = s.exec(ctx, "CREATE DATABASE "+name+" TEMPLATE template0 ENCODING 'UTF8' LC_COLLATE 'C' LC_CTYPE 'C'")
	if err != nil {
		return "", fmt.Errorf("create a database: %w", err)
	}
	if s.dir != "" {
		return s.url(name), nil
	}
	return replaceDatabase(s.config.ConnString(), name)
}

// DropDatabase removes a database that CreateDatabase made, with the
// connections to it.
func (s *Server) DropDatabase(ctx context.Context, dsn string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	err = s.exec(ctx, "DROP DATABASE IF EXISTS "+pgx.Identifier{config.Database}.Sanitize()+" WITH (FORCE)")
	if err != nil {
		return fmt.Errorf("drop a database: %w", err)
	}
	return nil
}

// Cut ends all connections to a database that CreateDatabase made and refuses new
// ones, as when its server is away; Join takes that back.
func (s *Server) Cut(ctx context.Context, dsn string) error {
	if err := s.connections(ctx, dsn, "false"); err != nil {
		return err
	}
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	return s.exec(ctx, "SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '"+config.Database+"'")
}

// Join takes Cut back.
func (s *Server) Join(ctx context.Context, dsn string) error { return s.connections(ctx, dsn, "true") }

func (s *Server) connections(ctx context.Context, dsn, allowed string) error {
	config, err := pgx.ParseConfig(dsn)
	if err != nil {
		return err
	}
	return s.exec(ctx, "ALTER DATABASE "+pgx.Identifier{config.Database}.Sanitize()+" ALLOW_CONNECTIONS "+allowed)
}

func (s *Server) exec(ctx context.Context, statement string) error {
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	_, err = conn.Exec(ctx, statement)
	return err
}

// replaceDatabase puts another database's name into a connection string of
// either form.
func replaceDatabase(dsn, name string) (string, error) {
	if !strings.HasPrefix(dsn, "postgres://") && !strings.HasPrefix(dsn, "postgresql://") {
		return dsn + " dbname=" + name, nil // the last of a keyword counts
	}
	u, err := url.Parse(dsn)
	if err != nil {
		return "", errors.New("COUNTERSIGN_TEST_POSTGRES is not a URL")
	}
	u.Path = "/" + name
	return u.String(), nil
}

// PID is the process id of the server's first process, whose children are the
// others; 0 for a server that is not ours.
func (s *Server) PID() int {
	if s.process == nil {
		return 0
	}
	return s.process.pid
}

// Log returns what the server wrote, for a failing test.
func (s *Server) Log() string {
	said, _ := os.ReadFile(s.log())
	return string(said)
}

// Kill ends every process of the server with SIGKILL, as a crash would, and
// waits until they are gone.
func (s *Server) Kill() error {
	if s.process == nil {
		return errors.New("this server is not ours to kill")
	}
	s.process.killTree()
	<-s.process.exited
	return nil
}

// Halt stops the server cleanly and keeps its data; Restart brings it back.
func (s *Server) Halt() error {
	if s.process == nil {
		return errors.New("this server is not ours to stop")
	}
	s.process.signal(syscall.SIGINT) // fast: sessions are ended, a checkpoint is written
	select {
	case <-s.process.exited:
		return nil
	case <-time.After(startLimit):
		return errors.Join(errors.New("PostgreSQL did not stop in time"), s.Kill())
	}
}

// Stop ends the server and removes its data. It does nothing to a server that
// is not ours.
func (s *Server) Stop() {
	if s.process == nil {
		return
	}
	s.process.signal(syscall.SIGQUIT) // immediate: nothing of it is kept
	select {
	case <-s.process.exited:
	case <-time.After(10 * time.Second):
		s.process.killTree()
		<-s.process.exited
	}
	s.remove()
}
