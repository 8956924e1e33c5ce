package trust

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"database/sql"
	"encoding/json"
	"fmt"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	_ "github.com/jackc/pgx/v5/stdlib"
	_ "modernc.org/sqlite"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/jose"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/internal/program"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// The resource and its scope that tokens are asked for.
const (
	theAPI   = "https://api.example"
	theScope = "notes:read"
)

// world is a deployment with clients: a service with a secret, one with a key,
// an application of people, and the API that takes their tokens.
type world struct {
	t              *testing.T
	dir, dsn       string
	wrap           func(*exec.Cmd) (*exec.Cmd, error) // how the server is started; nil: as it is
	issuer, ops    string
	address        string // where it listens
	file           string // of the configuration
	text           string
	config         *config.Config
	machine, keyed *actor.Client
	app, api       *actor.Client
	apiKey         *ecdsa.PrivateKey
	owner          string // a person
	setup          string // a setup link
	run            *program.Process
	serving        *server.State // of a server in this process
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// freePort is a port that nobody listens on, and that no other test was given.
func freePort(t *testing.T) int {
	t.Helper()
	for {
		l, err := net.Listen("tcp", "127.0.0.1:0")
		check(t, err)
		port := l.Addr().(*net.TCPAddr).Port
		check(t, l.Close())
		if _, taken := ports.LoadOrStore(port, true); !taken {
			return port
		}
	}
}

var ports sync.Map

// newWorld makes a deployment in a folder. dsn "" is SQLite. now is the clock
// it is made with; nil is the real one. settings are further ones of the database.
func newWorld(t *testing.T, dir, dsn string, now func() time.Time, settings ...string) *world {
	t.Helper()
	port, ops := freePort(t), freePort(t)
	w := &world{
		t: t, dir: dir, dsn: dsn, issuer: fmt.Sprintf("http://localhost:%d", port), ops: fmt.Sprintf("http://127.0.0.1:%d", ops),
		file: filepath.Join(dir, "countersignd.yaml"), address: fmt.Sprintf("127.0.0.1:%d", port),
	}
	where := "sqlite: " + strconv.Quote(filepath.Join(dir, "countersign.db"))
	if dsn != "" {
		where = "postgres: " + strconv.Quote(dsn)
	}
	w.text = fmt.Sprintf("issuer: %s\nlisten: {address: \"127.0.0.1:%d\"}\noperations: {address: \"127.0.0.1:%d\"}\ndata_dir: %q\ndevelopment: true\ndatabase: {%s}\nlog: {level: debug}\n",
		w.issuer, port, ops, dir, strings.Join(append([]string{where}, settings...), ", "))
	check(t, os.WriteFile(w.file, []byte(w.text), 0o600))
	var err error
	w.config, err = config.Parse([]byte(w.text), nil)
	check(t, err)
	st := w.state(now)
	defer func() { check(t, st.Close()) }()
	w.seed(st)
	t.Cleanup(w.kill)
	return w
}

// state opens the deployment beside, or in place of, the server.
func (w *world) state(now func() time.Time) *server.State {
	w.t.Helper()
	st, err := server.OpenState(context.Background(), w.config, server.Options{Migrate: true, Now: now})
	check(w.t, err)
	return st
}

func (w *world) seed(st *server.State) {
	w.t.Helper()
	ctx, now := context.Background(), time.Now().UTC()
	seed := func(kind audit.Kind, list ...interface{ Change() }) {
		w.t.Helper()
		for _, c := range list {
			check(w.t, st.Seed(ctx, kind, c))
		}
	}
	who := account.Person{ID: id.New(id.Person), Subject: id.Random(id.Person), Name: "Owner", Username: "owner", CreatedAt: now}
	w.owner = who.ID
	seed(audit.PersonCreated, account.Create{Person: who})
	self, err := st.Store.ResourceByURI(ctx, w.issuer+"/v1")
	check(w.t, err)
	resID, apiID := id.New(id.Resource), id.New(id.Client)
	seed(audit.ResourceCreated, resource.Create{Resource: resource.Resource{
		ID: resID, URI: theAPI, Name: "Notes", Servers: []string{apiID}, CreatedAt: now,
		Scopes: []resource.Scope{{Name: theScope, Description: "Read your notes", Kind: "read", Default: true}},
	}})
	service := func(name string, c client.Client) {
		svc := client.Service{ID: id.New(id.Service), Subject: id.Random(id.Service), Name: name, Owner: who.ID, Purpose: "trust", ReviewBy: now.Add(90 * 24 * time.Hour), CreatedAt: now}
		c.Service, c.ClientID, c.Name, c.CreatedAt = svc.ID, name, name, now
		seed(audit.ClientCreated, client.Create{Client: c, NewService: &svc})
	}
	bySecret := func() (*secret.Hash, string) {
		v := secret.New(secret.ClientSecret)
		h := v.Hash()
		return &h, v.Reveal()
	}
	byKey := func() (json.RawMessage, *ecdsa.PrivateKey, *jose.Signer) {
		key, err := ecdsa.GenerateKey(elliptic.P256(), rand.Reader)
		check(w.t, err)
		jwks, err := json.Marshal(&jose.JWKSet{Keys: []jose.JWK{{Key: key.Public(), KeyID: "k", Algorithm: "ES256"}}})
		check(w.t, err)
		s, err := jose.NewSigner(key, "ES256", "k", jose.TypClientAssertion)
		check(w.t, err)
		return jwks, key, s
	}
	grants := []client.GrantType{client.ClientCredentials}
	hash, machineSecret := bySecret()
	service("machine", client.Client{ID: id.New(id.Client), AuthMethod: client.AuthSecretBasic, SecretHash: hash, GrantTypes: grants, Scopes: []string{theScope}, Resources: []string{resID}})
	jwks, _, signer := byKey()
	service("keyed", client.Client{ID: id.New(id.Client), AuthMethod: client.AuthPrivateKeyJWT, JWKS: jwks, GrantTypes: grants, Scopes: []string{theScope}, Resources: []string{resID}})
	apiJWKS, apiKey, apiSigner := byKey()
	service("api", client.Client{ID: apiID, AuthMethod: client.AuthPrivateKeyJWT, JWKS: apiJWKS, GrantTypes: grants, Scopes: []string{"feed"}, Resources: []string{self.ID}})
	hash, appSecret := bySecret()
	app := client.Client{
		ID: id.New(id.Client), ClientID: "app", Name: "App", AuthMethod: client.AuthSecretBasic, SecretHash: hash, RedirectURIs: []string{"https://app.example/cb"},
		GrantTypes: []client.GrantType{client.AuthorizationCode, client.RefreshToken}, Scopes: []string{theScope, "openid"}, Resources: []string{resID},
		FirstParty: true, Owner: who.ID, CreatedAt: now,
	}
	seed(audit.ClientCreated, client.Create{Client: app})
	hc := actor.Pooled(64, soon(10*time.Second))
	w.machine = &actor.Client{Issuer: w.issuer, ID: "machine", Secret: machineSecret, HTTP: hc}
	w.keyed = &actor.Client{Issuer: w.issuer, ID: "keyed", Signer: signer, HTTP: hc}
	w.api = &actor.Client{Issuer: w.issuer, ID: "api", Signer: apiSigner, HTTP: hc}
	w.app = &actor.Client{Issuer: w.issuer, ID: "app", Secret: appSecret, HTTP: hc, Redirect: "https://app.example/cb"}
	w.apiKey = apiKey
	w.setup, err = st.SetupLink(ctx, policy.KindSystem)
	check(w.t, err)
}

// person sets the deployment up and is its first administrator, signed in.
func (w *world) person() *actor.Browser {
	w.t.Helper()
	// The start of a server makes a link of its own, which ends earlier ones.
	link := w.setup
	if b, err := os.ReadFile(filepath.Join(w.dir, "setup-link")); err == nil {
		link = strings.TrimSpace(string(b))
	}
	b := actor.New(w.issuer, nil)
	w.t.Cleanup(b.Close)
	check(w.t, b.SetUp(link, "Dana Example", "dana"))
	return b
}

// command is a command of the server's program on this deployment.
func (w *world) command(args ...string) *exec.Cmd {
	cmd := exec.Command(program.Build(w.t, "countersignd"), append([]string{"--config", w.file}, args...)...)
	cmd.Env = program.Environment([]string{"COUNTERSIGN_"})
	return cmd
}

// launch starts the server and does not wait for it.
func (w *world) launch() {
	w.t.Helper()
	cmd := w.command("serve")
	var err error
	if w.wrap != nil {
		cmd, err = w.wrap(cmd)
		check(w.t, err)
	}
	w.run, err = program.Start(cmd)
	check(w.t, err)
}

// start starts the server and gives how long it took to be ready.
func (w *world) start() time.Duration {
	w.t.Helper()
	program.Build(w.t, "countersignd") // which is not part of it
	began := time.Now()
	w.launch()
	for time.Since(began) < time.Minute {
		if w.run.Gone() {
			w.t.Fatalf("the server ended: %s", tail(w.run.Said()))
		}
		if resp, err := probe.Get(w.ops + "/readyz"); err == nil {
			resp.Body.Close()
			if resp.StatusCode == http.StatusOK {
				return time.Since(began)
			}
		}
		time.Sleep(2 * time.Millisecond)
	}
	w.t.Fatalf("the server is not ready: %s", tail(w.run.Said()))
	return 0
}

var probe = &http.Client{Timeout: 10 * time.Second, Transport: &http.Transport{DisableKeepAlives: true}}

func tail(s string) string { return s[max(0, len(s)-3000):] }

// kill ends the server as a power cut would.
func (w *world) kill() {
	if w.run != nil {
		w.run.Kill()
		w.run = nil
	}
}

// stop ends the server in good order.
func (w *world) stop() {
	w.t.Helper()
	if w.run != nil {
		if err := w.run.Stop(time.Minute); err != nil {
			w.t.Errorf("the server's end: %v: %s", err, tail(w.run.Said()))
		}
		w.run = nil
	}
}

// db opens the database beside the server.
func (w *world) db() *sql.DB {
	w.t.Helper()
	driver, dsn := "sqlite", "file:"+filepath.Join(w.dir, "countersign.db")+"?_pragma=busy_timeout(10000)"
	if w.dsn != "" {
		driver, dsn = "pgx", w.dsn
	}
	db, err := sql.Open(driver, dsn)
	check(w.t, err)
	w.t.Cleanup(func() { db.Close() })
	return db
}

// checkpoint is the one that the server kept beside the database, nil if there
// is none yet.
func (w *world) checkpoint() []byte {
	b, err := os.ReadFile(filepath.Join(w.dir, "checkpoint"))
	if err != nil {
		return nil
	}
	return b
}

// verify verifies the log against a checkpoint kept elsewhere.
func (w *world) verify(st *server.State, against []byte) audit.Report {
	w.t.Helper()
	key, err := st.VerificationKey()
	check(w.t, err)
	rep, err := audit.Verify(context.Background(), st.Store, audit.Options{VKey: key, Against: against, Keys: st.Names})
	check(w.t, err)
	return rep
}
