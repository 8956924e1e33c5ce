package main

import (
	"bytes"
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"sync"
	"syscall"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/act"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/grant"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/internal/session"
)

// How many refresh tokens are made before the start: more than the most connections
// that can be asked for, and more than fetch tokens for userinfo.
const refreshPool, personsPool = 1024, 256

// countersignSystem is a running countersignd.
type countersignSystem struct {
	oauth
	store    string
	cmd      *exec.Cmd
	database int // pid of the database's server, 0 for an embedded one
	started  time.Duration
	bytes    func() (int64, error)
	log      *bytes.Buffer
	refresh  refreshTokens // for the API of the workloads
	persons  refreshTokens // for userinfo
}

// refreshTokens are handed out once each.
type refreshTokens struct {
	mu   sync.Mutex
	left []string
}

func (p *refreshTokens) take() (string, error) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if len(p.left) == 0 {
		return "", errors.New("no refresh token is left")
	}
	t := p.left[len(p.left)-1]
	p.left = p.left[:len(p.left)-1]
	return t, nil
}

// startServer seeds a database and starts the server on it. dsn "" is SQLite.
func startServer(ctx context.Context, dir, binary, dsn string, database int, size func() (int64, error)) (*countersignSystem, error) {
	if err := os.MkdirAll(dir, 0o700); err != nil {
		return nil, err
	}
	port, err := freePort()
	if err != nil {
		return nil, err
	}
	s := &countersignSystem{store: "postgres", database: database, bytes: size, log: &bytes.Buffer{}}
	s.Host, s.Issuer = "localhost:"+strconv.Itoa(port), "http://localhost:"+strconv.Itoa(port)
	s.TokenPath, s.IntrospectionPath, s.UserinfoPath = "/oauth/token", "/oauth/introspect", "/oauth/userinfo"
	s.MetadataPath, s.JWKSPath = "/.well-known/oauth-authorization-server", "/oauth/jwks"
	where := "postgres: " + strconv.Quote(dsn)
	if dsn == "" {
		path := filepath.Join(dir, "countersign.db")
		s.store, where, s.bytes = "sqlite", "sqlite: "+strconv.Quote(path), func() (int64, error) { return fileBytes(path) }
	}
	text := fmt.Sprintf("issuer: %s\nlisten: {address: 127.0.0.1:%d}\ndata_dir: %q\ndevelopment: true\ndatabase: {%s}\nlog: {level: warn}\n", s.Issuer, port, dir, where)
	cfg, err := config.Parse([]byte(text), nil)
	if err != nil {
		return nil, err
	}
	if err := s.seed(ctx, cfg); err != nil {
		return nil, fmt.Errorf("seed: %w", err)
	}
	file := filepath.Join(dir, "countersignd.yaml")
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		return nil, err
	}
	s.cmd = exec.Command(binary, "--config", file, "serve")
	s.cmd.Stderr = s.log
	child(s.cmd)
	start := time.Now()
	if err := s.cmd.Start(); err != nil {
		return nil, err
	}
	for time.Since(start) < 20*time.Second {
		if r, err := caller.Get(s.Issuer + s.MetadataPath); err == nil {
			r.Body.Close()
			s.started = time.Since(start)
			return s, nil
		}
		time.Sleep(2 * time.Millisecond)
	}
	s.Stop()
	return nil, fmt.Errorf("the server did not start\n%s", s.log)
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer l.Close()
	return l.Addr().(*net.TCPAddr).Port, nil
}

// seed makes the clients, the resource and the refresh tokens of the workloads,
// through the same acts as the server's own.
func (s *countersignSystem) seed(ctx context.Context, cfg *config.Config) (err error) {
	st, err := server.OpenState(ctx, cfg, server.Options{Migrate: true})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, st.Close()) }()
	now := time.Now().UTC()
	who := account.Person{ID: id.New(id.Person), Subject: id.Random(id.Person), Name: "Bench", Username: "bench", CreatedAt: now}
	if err := st.Seed(ctx, audit.PersonCreated, account.Create{Person: who}); err != nil {
		return err
	}
	if s.Key, err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
		return err
	}
	jwks, err := json.Marshal(&jose.JWKSet{Keys: []jose.JWK{{Key: s.Key.Public(), KeyID: "k", Algorithm: "ES256"}}})
	if err != nil {
		return err
	}
	key := secret.New(secret.ClientSecret)
	hash := key.Hash()
	s.ClientID, s.KeyClientID, s.Secret = "bench", "bench-key", key.Reveal()
	resID := id.New(id.Resource)
	plain := client.Client{
		ID: id.New(id.Client), ClientID: s.ClientID, Name: "bench", AuthMethod: client.AuthSecretBasic, SecretHash: &hash, RedirectURIs: []string{"https://bench.example/cb"},
		GrantTypes: []client.GrantType{client.ClientCredentials, client.RefreshToken, client.AuthorizationCode}, Scopes: []string{"bench:read"}, Resources: []string{resID}, CreatedAt: now,
	}
	keyed := plain
	keyed.ID, keyed.ClientID, keyed.AuthMethod, keyed.SecretHash, keyed.JWKS = id.New(id.Client), s.KeyClientID, client.AuthPrivateKeyJWT, nil, jwks
	res := resource.Resource{ID: resID, URI: "https://bench.example", Name: "bench", Servers: []string{plain.ID}, CreatedAt: now, Scopes: []resource.Scope{{Name: "bench:read", Kind: "read", Default: true}}}
	if err := st.Seed(ctx, audit.ResourceCreated, resource.Create{Resource: res}); err != nil {
		return err
	}
	for _, c := range []*client.Client{&plain, &keyed} {
		svc := client.Service{ID: id.New(id.Service), Subject: id.Random(id.Service), Name: c.ClientID, Owner: who.ID, Purpose: "bench", ReviewBy: now.Add(time.Hour), CreatedAt: now}
		c.Service = svc.ID
		if err := st.Seed(ctx, audit.ClientCreated, client.Create{Client: *c, NewService: &svc}); err != nil {
			return err
		}
	}
	s.Extra = url.Values{"resource": {res.URI}}
	s.FirstRefreshToken = func(context.Context, int) (string, error) { return s.refresh.take() }
	s.PersonsRefreshToken = func(context.Context) (string, error) { return s.persons.take() }
	return s.seedRefresh(ctx, st, who.ID, plain.ID, resID, now)
}

func (s *countersignSystem) seedRefresh(ctx context.Context, st *server.State, person, clientID, resID string, now time.Time) error {
	proofs := []assurance.Proof{{Method: assurance.Passkey, Subject: person, At: now, UserVerified: true, PhishingResistant: true}}
	dev := session.Device{ID: id.New(id.Device), Label: "bench", CreatedAt: now}
	ses := session.Open{
		Session:    session.Session{ID: id.New(id.Session), Person: person, Device: dev.ID, Proofs: proofs, CreatedAt: now, SeenAt: now, ExpiresAt: now.Add(session.Lifetime), IdleUntil: now.Add(session.IdleLifetime)},
		SecretHash: secret.New(secret.Session).Hash(), NewDevice: &dev, DeviceHash: secret.New(secret.Device).Hash(),
	}
	if err := st.Seed(ctx, audit.SessionOpened, ses); err != nil {
		return err
	}
	g := grant.Grant{Person: person, Client: clientID, Session: ses.ID, Resources: []string{resID}, Pair: assurance.Evaluate(person, proofs, now).Best(), ACR: "phr", Proofs: proofs, CreatedAt: now, ExpiresAt: now.Add(grant.FamilyLifetime)}
	g.Scopes = []string{"bench:read"}
	if err := s.refresh.seed(ctx, st, g, refreshPool); err != nil {
		return err
	}
	g.Scopes = []string{"openid", "profile", "bench:read"}
	return s.persons.seed(ctx, st, g, personsPool)
}

// seed gives count grants like g, each with a family's first token.
func (p *refreshTokens) seed(ctx context.Context, st *server.State, g grant.Grant, count int) error {
	for at := 0; at < count; at += 64 {
		var list []act.Change
		for range 64 {
			fam := id.New(id.Family)
			raw, _ := id.Parse(id.Family, fam)
			first := grant.FirstToken(raw)
			g.ID = id.New(id.Grant)
			list = append(list, grant.Open{Grant: g}, grant.OpenFamily{Family: grant.Family{
				ID: fam, Grant: g.ID, Client: g.Client, Person: g.Person, CurHash: first.Hash(), RotatedAt: g.CreatedAt, KeyVersion: st.Ring.CurrentRT(),
				CreatedAt: g.CreatedAt, ExpiresAt: g.ExpiresAt, IdleUntil: g.CreatedAt.Add(grant.FamilyIdle),
			}})
			p.left = append(p.left, first.Text(st.Ring).Reveal())
		}
		if err := st.Seed(ctx, audit.GrantOpened, list...); err != nil {
			return err
		}
	}
	return nil
}

// Store implements System.
func (s *countersignSystem) Store() string { return s.store }

func (s *countersignSystem) Addr() string { return "127.0.0.1:" + s.Host[len("localhost:"):] }

func (s *countersignSystem) Processes() []int {
	if s.database != 0 {
		return []int{s.cmd.Process.Pid, s.database}
	}
	return []int{s.cmd.Process.Pid}
}
func (s *countersignSystem) Started() time.Duration { return s.started }
func (s *countersignSystem) Bytes() (int64, error)  { return s.bytes() }

// Stop ends the server by its own pid.
func (s *countersignSystem) Stop() {
	s.cmd.Process.Signal(syscall.SIGTERM)
	done := make(chan struct{})
	go func() { s.cmd.Wait(); close(done) }()
	select {
	case <-done:
	case <-time.After(15 * time.Second):
		s.cmd.Process.Kill()
		<-done
	}
}
