package pgtest

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/countersign-dev/countersign/test/internal/scratch"
)

// Standby makes a copy of the server that follows it by streaming replication,
// and starts it on a port of its own. Both are to be stopped. Commits wait for
// it only after Synchronous.
func (s *Server) Standby() (*Server, error) {
	if s.process == nil {
		return nil, errors.New("this server is not ours to copy")
	}
	c := &Server{bin: s.bin, password: s.password, owner: s.owner}
	var err error
	if c.dir, c.remove, err = scratch.Dir("pg"); err != nil {
		return nil, err
	}
	if err := c.owner.own(c.dir); err != nil {
		return nil, err
	}
	cmd := exec.Command(filepath.Join(s.bin, "pg_basebackup"), "-D", c.data(), "-h", "127.0.0.1", "-p", strconv.Itoa(s.port), "-U", superuser,
		"-X", "stream", "-c", "fast", "-R", "-C", "-S", "standby", "--no-sync")
	cmd.Dir = c.dir
	c.owner.become(cmd)
	cmd.Env = append(cmd.Env, "PGPASSWORD="+s.password)
	if out, err := cmd.CombinedOutput(); err != nil {
		c.remove()
		return nil, fmt.Errorf("pg_basebackup: %w\n%s", err, out)
	}
	if err := c.startAnywhere(); err != nil {
		c.remove()
		return nil, err
	}
	return c, nil
}

// Synchronous has commits wait until a standby has them on its disk, or no
// longer. It returns once that is so.
func (s *Server) Synchronous(ctx context.Context, on bool) error {
	names, want := "", "async"
	if on {
		names, want = "*", "sync"
	}
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	for _, text := range []string{"ALTER SYSTEM SET synchronous_standby_names = '" + names + "'", "SELECT pg_reload_conf()"} {
		if _, err := conn.Exec(ctx, text); err != nil {
			return err
		}
	}
	for {
		var state string
		err := conn.QueryRow(ctx, "SELECT sync_state FROM pg_stat_replication WHERE state = 'streaming'").Scan(&state)
		if err == nil && state == want {
			return nil
		}
		if err != nil && !errors.Is(err, pgx.ErrNoRows) {
			return err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the standby is %q, want %q: %w", state, want, ctx.Err())
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Promote makes a standby the server that takes writes.
func (s *Server) Promote(ctx context.Context) error {
	conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
	if err != nil {
		return err
	}
	defer conn.Close(context.WithoutCancel(ctx))
	var done bool
	if err := conn.QueryRow(ctx, "SELECT pg_promote(true, 60)").Scan(&done); err != nil || !done {
		return fmt.Errorf("promote the standby: %t, %w", done, err)
	}
	return nil
}

// Either is the connection string of a database of this server or of another
// one, whichever takes writes.
func (s *Server) Either(other *Server, dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	q := u.Query()
	q.Set("target_session_attrs", "read-write")
	u.Host, u.RawQuery = s.host()+","+other.host(), q.Encode()
	return u.String(), nil
}

// URL is the connection string of a database of another server on this one, its copy.
func (s *Server) URL(dsn string) (string, error) {
	u, err := url.Parse(dsn)
	if err != nil {
		return "", err
	}
	u.Host = s.host()
	return u.String(), nil
}

func (s *Server) host() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(s.port)) }

// Detach has a standby follow no more: what the other server commits from now on
// does not reach it.
func (s *Server) Detach(ctx context.Context) error {
	for _, text := range []string{"ALTER SYSTEM SET primary_conninfo = ''", "SELECT pg_reload_conf()"} {
		if err := s.exec(ctx, text); err != nil {
			return err
		}
	}
	for {
		conn, err := pgx.ConnectConfig(ctx, s.config.Copy())
		if err != nil {
			return err
		}
		var n int
		err = conn.QueryRow(ctx, "SELECT count(*) FROM pg_stat_wal_receiver").Scan(&n)
		conn.Close(context.WithoutCancel(ctx))
		if err != nil || n == 0 {
			return err
		}
		select {
		case <-ctx.Done():
			return ctx.Err()
		case <-time.After(20 * time.Millisecond):
		}
	}
}

// Keep copies the data of a halted server. putBack, called when it is halted again,
// puts them in the place of what is there then: as who restores a copy of the disk
// does, or a snapshot of the machine.
func (s *Server) Keep() (putBack func() error, err error) {
	kept := filepath.Join(s.dir, "kept")
	if err := copyFolder(s.data(), kept); err != nil {
		return nil, err
	}
	return func() error {
		if s.process != nil && !s.process.ended() {
			return errors.New("PostgreSQL is running")
		}
		if err := os.RemoveAll(s.data()); err != nil {
			return err
		}
		return copyFolder(kept, s.data())
	}, nil
}

// copyFolder copies a folder with its owners and modes.
func copyFolder(from, to string) error {
	if out, err := exec.Command("cp", "-a", from, to).CombinedOutput(); err != nil {
		return fmt.Errorf("copy %s: %w: %s", from, err, out)
	}
	return nil
}
