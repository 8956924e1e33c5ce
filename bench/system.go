package main

import (
	"bufio"
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/sha256"
	"crypto/x509"
	"encoding/base64"
	"encoding/hex"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/bench/load"
	"github.com/countersign-dev/countersign/bench/proc"
	"github.com/countersign-dev/countersign/test/pgtest"
)

// errNotOffered is what a system says of a workload that it does not have.
var errNotOffered = errors.New("not offered")

// System is one server under load, with the database it stands on.
type System interface {
	// Store is where it keeps what it acknowledges, such as "sqlite", and
	// tells it from the others.
	Store() string
	// Addr is the host and port where it answers, on this machine.
	Addr() string
	// Processes are the roots of the processes whose time counts: the server
	// first, then its database's, if that runs apart.
	Processes() []int
	// Started is how long it took from its start until it was ready.
	Started() time.Duration
	// Bytes is the size of its database, 0 for one in memory.
	Bytes() (int64, error)
	// Workload returns a workload by its name, or errNotOffered.
	Workload(name string) (load.Workload, error)
	// Stop ends it.
	Stop()
}

// startAll builds and starts everything that is measured. It returns what it
// started even when it fails.
func startAll(ctx context.Context, dir string, floorOnly bool) (systems []System, err error) {
	binary := filepath.Join(dir, "floor")
	if err := build(ctx, "./bench/floor", binary); err != nil {
		return nil, err
	}
	for _, database := range []string{"", filepath.Join(dir, "floor.db")} {
		f, err := startFloor(ctx, binary, database)
		if err != nil {
			return systems, err
		}
		systems = append(systems, f)
	}
	if floorOnly {
		return systems, nil
	}
	binary = filepath.Join(dir, "countersignd")
	if err := build(ctx, "./cmd/countersignd", binary); err != nil {
		return systems, err
	}
	lite, err := startServer(ctx, filepath.Join(dir, "sqlite"), binary, "", 0, nil)
	if err != nil {
		return systems, err
	}
	systems = append(systems, lite)
	return startPostgres(ctx, dir, binary, systems)
}

// startPostgres adds the server on PostgreSQL, where that is installed.
func startPostgres(ctx context.Context, dir, binary string, systems []System) ([]System, error) {
	if _, err := pgtest.Locate(); err != nil {
		fmt.Fprintln(os.Stderr, "bench: PostgreSQL is not installed, so it is left out")
		return systems, nil
	}
	pg, err := pgtest.StartServer("")
	if err != nil {
		return systems, err
	}
	dsn, err := pg.CreateDatabase(ctx)
	if err != nil {
		pg.Stop()
		return systems, err
	}
	s, err := startServer(ctx, filepath.Join(dir, "postgres"), binary, dsn, pg.PID(), func() (int64, error) { return databaseBytes(dsn) })
	if err != nil {
		pg.Stop()
		return systems, err
	}
	return append(systems, &withDatabase{s, pg}), nil
}

// withDatabase stops the database after the server on it.
type withDatabase struct {
	*countersignSystem
	pg *pgtest.Server
}

func (w *withDatabase) Stop() {
	w.countersignSystem.Stop()
	w.pg.Stop()
}

// databaseBytes is the size of a PostgreSQL database.
func databaseBytes(dsn string) (n int64, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), 10*time.Second)
	defer cancel()
	c, err := pgx.Connect(ctx, dsn)
	if err != nil {
		return 0, err
	}
	defer c.Close(ctx)
	err = c.QueryRow(ctx, "SELECT pg_database_size(current_database())").Scan(&n)
	return n, err
}

// build compiles a program of the module, as plain go build does, whose cache
// is warm.
func build(ctx context.Context, pkg, out string) error {
	cmd := exec.CommandContext(ctx, "go", "build", "-o", out, pkg)
	if said, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build %s: %w\n%s", pkg, err, said)
	}
	return nil
}

// floorSystem is a running bench/floor.
type floorSystem struct {
	oauth
	cmd      *exec.Cmd
	lifeline io.Closer
	database string
	started  time.Duration
}

func startFloor(ctx context.Context, binary, database string) (*floorSystem, error) {
	f := &floorSystem{database: database}
	f.ClientID, f.Secret = "bench", rand.Text()
	f.TokenPath, f.IntrospectionPath, f.UserinfoPath = "/token", "/introspect", "/userinfo"
	f.MetadataPath, f.JWKSPath = "/.well-known/oauth-authorization-server", "/jwks"
	f.PersonsRefreshToken = f.floorRefreshToken
	f.FirstRefreshToken = func(ctx context.Context, _ int) (string, error) { return f.floorRefreshToken(ctx) }
	var err error
	if f.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return nil, err
	}
	public, err := x509.MarshalPKIXPublicKey(&f.Key.PublicKey)
	if err != nil {
		return nil, err
	}
	hash := sha256.Sum256([]byte(f.Secret))
	f.cmd = exec.CommandContext(ctx, binary, "-durable", database, "-secret-sha256", hex.EncodeToString(hash[:]),
		"-client-key", base64.StdEncoding.EncodeToString(public))
	said := &bytes.Buffer{}
	f.cmd.Stderr = said
	if f.lifeline, err = f.cmd.StdinPipe(); err != nil {
		return nil, err
	}
	stdout, err := f.cmd.StdoutPipe()
	if err != nil {
		return nil, err
	}
	start := time.Now()
	if err := f.cmd.Start(); err != nil {
		return nil, err
	}
	line, err := bufio.NewReader(stdout).ReadString('\n')
	if err != nil {
		f.Stop()
		return nil, fmt.Errorf("the floor did not start: %w\n%s", err, said)
	}
	f.started = time.Since(start)
	f.Host = strings.TrimSpace(line)
	f.Issuer = "http://" + f.Host
	return f, nil
}

// Store implements System.
func (f *floorSystem) Store() string {
	if f.database == "" {
		return "floor-memory"
	}
	return "floor-sqlite"
}

func (f *floorSystem) Addr() string           { return f.Host }
func (f *floorSystem) Processes() []int       { return []int{f.cmd.Process.Pid} }
func (f *floorSystem) Started() time.Duration { return f.started }
func (f *floorSystem) Bytes() (int64, error)  { return fileBytes(f.database) }

// Stop closes the floor's input, at whose end it ends.
func (f *floorSystem) Stop() {
	f.lifeline.Close()
	f.cmd.Wait()
}

// fileBytes is the size of an SQLite database with its log.
func fileBytes(path string) (sum int64, err error) {
	if path == "" {
		return 0, nil
	}
	for _, suffix := range []string{"", "-wal"} {
		info, err := os.Stat(path + suffix)
		switch {
		case err == nil:
			sum += info.Size()
		case !errors.Is(err, os.ErrNotExist):
			return 0, err
		}
	}
	return sum, nil
}

// lifetime is what a system holds, before and after the load.
type lifetime struct {
	rss, rssAfter     int64
	bytes, bytesAfter int64
}

func begin(s System) (l *lifetime, err error) {
	l = &lifetime{}
	if l.rss, err = proc.RSS(s.Processes()[0]); err != nil {
		return nil, err
	}
	l.bytes, err = s.Bytes()
	return l, err
}

func (l *lifetime) end(s System) {
	l.rssAfter, _ = proc.RSS(s.Processes()[0])
	l.bytesAfter, _ = s.Bytes()
}
