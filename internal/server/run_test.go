package server

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/store"
)

// TestReady: a server asks for requests while its log grows and its database
// answers, and not a moment longer.
func TestReady(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t)
	ready := func() string {
		w := ask(s.Operations(), http.MethodGet, "/readyz", "")
		if (w.Code == http.StatusOK) != (strings.TrimSpace(w.Body.String()) == "ready") || w.Code != http.StatusOK && w.Code != http.StatusServiceUnavailable {
			t.Errorf("%d %s", w.Code, w.Body)
		}
		return w.Body.String()
	}
	if got := ready(); !strings.Contains(got, "starting") {
		t.Errorf("before it runs: %s", got)
	}
	s.ready.Store(true)
	if got := ready(); got != "ready\n" {
		t.Errorf("running: %s", got)
	}

	var broken atomic.Bool
	broken.Store(true)
	s.seq = s.Store.Sequencer(store.SequencerOptions{
		Origin: "id.example.com/log/1", Log: s.log, Poll: 10 * time.Millisecond, Every: time.Millisecond,
		Sign: func(string, uint64, [32]byte) ([]byte, error) {
			if broken.Load() {
				return nil, errors.New("the key store is away")
			}
			return []byte("note"), nil
		},
	})
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() { defer close(done); s.seq.Run(ctx) }()
	waitFor(t, func() bool { return strings.Contains(ready(), "the audit log stands still") })
	broken.Store(false)
	waitFor(t, func() bool { return ready() == "ready\n" })
	stop()
	<-done

	gone, cancel := context.WithCancel(t.Context())
	cancel() // as a database that does not answer in time
	if err := s.Ready(gone); err == nil || !strings.Contains(err.Error(), "database") {
		t.Errorf("without a database: %v", err)
	}
}

// TestShutdown: a request under way is finished, and nothing new is taken.
func TestShutdown(t *testing.T) {
	t.Parallel()
	s, _ := newServer(t, func(c *config.Config) { c.Operations.Address = "127.0.0.1:0" })
	s.Config.Listen.Address = "127.0.0.1:0"
	l, err := Listen(s.Config)
	check(t, err)
	addr, ops := l.Public.Addr().String(), l.Operations.Addr().String()
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	waitFor(t, func() bool { return s.Ready(t.Context()) == nil })
	res, err := http.Get("http://" + ops + "/readyz")
	check(t, err)
	if got := readAll(t, res); got != "ready\n" {
		t.Errorf("readyz says %s", got)
	}

	conn, err := net.Dial("tcp", addr)
	check(t, err)
	defer conn.Close()
	_, err = io.WriteString(conn, "POST /oauth/token HTTP/1.1\r\nHost: id.example.com\r\nContent-Type: application/x-www-form-urlencoded\r\nContent-Length: 12\r\n\r\ngrant_")
	check(t, err)
	waitFor(t, func() bool { // it is being read
		s.lanes.reading.mu.Lock()
		defer s.lanes.reading.mu.Unlock()
		return s.lanes.reading.free == maxReading-1
	})
	stop()
	waitFor(t, func() bool { return s.Ready(t.Context()) != nil })
	waitFor(t, func() bool {
		c, err := net.Dial("tcp", addr)
		if err == nil {
			c.Close()
		}
		return err != nil
	})
	select {
	case err := <-done:
		t.Fatalf("it ended without finishing: %v", err)
	default:
	}
	_, err = io.WriteString(conn, "type=x")
	check(t, err)
	check(t, conn.SetReadDeadline(time.Now().Add(time.Minute)))
	answer, err := io.ReadAll(conn)
	check(t, err)
	if !strings.HasPrefix(string(answer), "HTTP/1.1 401") || !strings.HasSuffix(string(answer), "}\n") {
		t.Errorf("the request under way got %q", answer)
	}
	check(t, <-done)
}

// TestListen: a port that is taken is an error, and nothing stays open.
func TestListen(t *testing.T) {
	taken, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	defer taken.Close()
	free, err := net.Listen("tcp", "127.0.0.1:0")
	check(t, err)
	check(t, free.Close())
	cfg := testConfig(t.TempDir())
	cfg.Listen.Address, cfg.Operations.Address = free.Addr().String(), taken.Addr().String()
	if _, err := Listen(cfg); err == nil {
		t.Fatal("listens on a port that is taken")
	}
	again, err := net.Listen("tcp", free.Addr().String())
	if err != nil {
		t.Fatalf("the public socket stayed open: %v", err)
	}
	check(t, again.Close())
}

// writePair writes a self-signed certificate of a serial number and its key.
func writePair(t *testing.T, c *certificates, serial int64, at time.Time) {
	t.Helper()
	key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
	check(t, err)
	der, err := x509.CreateCertificate(rand.Reader, &x509.Certificate{
		SerialNumber: big.NewInt(serial), DNSNames: []string{"id.example.com"}, NotAfter: time.Now().Add(time.Hour),
	}, &x509.Certificate{SerialNumber: big.NewInt(serial)}, key.Public(), key)
	check(t, err)
	private, err := x509.MarshalPKCS8PrivateKey(key)
	check(t, err)
	check(t, os.WriteFile(c.cert, pem.EncodeToMemory(&pem.Block{Type: "CERTIFICATE", Bytes: der}), 0o644))
	check(t, os.WriteFile(c.key, pem.EncodeToMemory(&pem.Block{Type: "PRIVATE KEY", Bytes: private}), 0o600))
	check(t, os.Chtimes(c.cert, at, at))
}

// TestCertificate: a new certificate is served without a restart, one that cannot
// be used leaves the old, and a key that others can read is refused.
func TestCertificate(t *testing.T) {
	dir := t.TempDir()
	c := &certificates{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	start := time.Now().Add(-time.Hour)
	if c.load() == nil {
		t.Fatal("loaded what is not there")
	}
	writePair(t, c, 1, start)
	check(t, os.Chmod(c.key, 0o640))
	if err := c.load(); err == nil || !strings.Contains(err.Error(), "chmod 600") {
		t.Errorf("a key that others can read: %v", err)
	}
	check(t, os.Chmod(c.key, 0o600))
	check(t, c.load())
	served := func(want string) {
		t.Helper()
		p, err := c.get(nil)
		check(t, err)
		leaf, err := x509.ParseCertificate(p.Certificate[0])
		check(t, err)
		if got := leaf.SerialNumber.String(); got != want {
			t.Errorf("serves certificate %s, want %s", got, want)
		}
	}
	later := func() { c.checked = time.Now().Add(-6 * time.Second) }
	served("1")
	writePair(t, c, 2, start.Add(time.Minute))
	served("1") // files are not looked at for each handshake
	later()
	served("2")
	check(t, os.WriteFile(c.cert, []byte("half a certif"), 0o644))
	later()
	served("2")
	writePair(t, c, 3, start.Add(2*time.Minute))
	later()
	served("3")
	check(t, os.Remove(c.cert))
	later()
	served("3")
}

// TestTLS: the public listener speaks TLS 1.2 or newer with the configured
// certificate, and nothing in the clear.
func TestTLS(t *testing.T) {
	t.Parallel()
	dir := t.TempDir()
	c := &certificates{cert: filepath.Join(dir, "tls.crt"), key: filepath.Join(dir, "tls.key")}
	writePair(t, c, 7, time.Now())
	s, _ := newServer(t, func(cfg *config.Config) { cfg.Listen.TLS = config.TLS{CertFile: c.cert, KeyFile: c.key} })
	s.Config.Listen.Address = "127.0.0.1:0"
	l, err := Listen(s.Config)
	check(t, err)
	ctx, stop := context.WithCancel(t.Context())
	done := make(chan error, 1)
	go func() { done <- s.Run(ctx, l) }()
	waitFor(t, func() bool { return s.Ready(t.Context()) == nil })
	addr := l.Public.Addr().String()
	dial := func(o *tls.Config) error {
		o.InsecureSkipVerify = true // the test knows the serial number
		conn, err := tls.Dial("tcp", addr, o)
		if err != nil {
			return err
		}
		defer conn.Close()
		if got := conn.ConnectionState().PeerCertificates[0].SerialNumber.String(); got != "7" {
			return fmt.Errorf("certificate %s", got)
		}
		return nil
	}
	if err := dial(&tls.Config{}); err != nil {
		t.Error(err)
	}
	if dial(&tls.Config{MinVersion: tls.VersionTLS10, MaxVersion: tls.VersionTLS11}) == nil {
		t.Error("TLS 1.1 is spoken")
	}
	res, err := http.Get("http://" + addr + "/oauth/jwks")
	if err == nil {
		if readAll(t, res); res.StatusCode == http.StatusOK {
			t.Error("served in the clear")
		}
	}
	stop()
	check(t, <-done)
}
