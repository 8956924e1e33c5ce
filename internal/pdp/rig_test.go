package pdp_test

import (
	"context"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"io"
	"net"
	"net/http"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/client"
	"github.com/countersign-dev/countersign/internal/config"
	"github.com/countersign-dev/countersign/internal/group"
	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/resource"
	"github.com/countersign-dev/countersign/internal/ruleset"
	"github.com/countersign-dev/countersign/internal/secret"
	"github.com/countersign-dev/countersign/internal/server"
	"github.com/countersign-dev/countersign/test/trust/actor"
)

// The resource servers of the tests, and the actions that are theirs.
const (
	todo   = "https://todo.example.com"
	deploy = "https://deploy.example.com"
)

const schema = `
entity user;
entity todo { owner: Person };
entity document;
entity Cluster { owner: Person };
@audience("https://todo.example.com")
action "can_read_user" appliesTo { principal: [Person], resource: [user], context: Context };
@audience("https://todo.example.com")
action "can_read_todos", "can_create_todo", "can_update_todo", "can_delete_todo" appliesTo { principal: [Person], resource: [todo], context: Context };
@audience("https://todo.example.com")
action "read", "write" appliesTo { principal: [Person], resource: [document], context: Context };

@audience("https://deploy.example.com") @outage("last")
action "look" appliesTo { principal: [Person, Service], resource: [Cluster], context: Context };
@audience("https://deploy.example.com")
action "deploy" appliesTo { principal: [Person, Service], resource: [Cluster], context: Context };
@audience("https://deploy.example.com")
action "destroy" appliesTo { principal: [Person], resource: [Cluster], context: Context };
@audience("https://deploy.example.com") @outage("last")
action "restart" appliesTo { principal: [Person], resource: [Cluster], context: Context };
@audience("https://deploy.example.com")
action "own" appliesTo { principal: [Person], resource: [Cluster], context: Context };
@audience("https://deploy.example.com")
action "merge" appliesTo { principal: [Person], resource: [Cluster], context: Context };

entity Payment { owner: Person, amount: Long, currency: String, final: Bool, tags: Set<String> };
@audience("https://deploy.example.com")
action "pay" appliesTo { principal: [Person], resource: [Payment], context: Context };
`

const rules = `
@id("todo.read") @reason("Anybody may read.")
permit (principal is Person, action in [Action::"can_read_user", Action::"can_read_todos"], resource);
@id("todo.create") @reason("Editors and administrators create.")
permit (principal is Person, action == Action::"can_create_todo", resource)
when { principal in Group::"editor" || principal in Group::"admin" };
@id("todo.own") @reason("Editors change what is their own.")
permit (principal is Person in Group::"editor", action in [Action::"can_update_todo", Action::"can_delete_todo"], resource)
when { resource.owner == principal };
@id("todo.any") @reason("An evil genius changes anything.")
permit (principal is Person in Group::"evil_genius", action == Action::"can_update_todo", resource);
@id("todo.delete") @reason("An administrator deletes anything.")
permit (principal is Person in Group::"admin", action == Action::"can_delete_todo", resource);
@id("document") @reason("Documents but the second are read.")
permit (principal is Person, action == Action::"read", resource) when { resource != document::"2" };

@id("look") @reason("Anybody signed in looks.")
permit (principal is Person, action == Action::"look", resource) when { context.assurance.rung >= 1 };
@id("look.machine") @reason("So does a machine.")
permit (principal is Service, action == Action::"look", resource) when { context.assurance.machine >= 1 };
@id("deploy") @reason("Deploying needs a key.") @public_reason("Deploying needs a recent phishing-resistant sign-in")
permit (principal is Person in Group::"release", action == Action::"deploy", resource is Cluster)
when { context.assurance.age.phr <= duration("5m") };
@id("deploy.machine") @reason("A machine deploys if it proves its instance.")
permit (principal is Service, action == Action::"deploy", resource) when { context.assurance.machine >= 3 };
@id("destroy") @reason("Destroying needs calm and a hardware key.") @public_reason("Destroying needs a hardware key")
permit (principal is Person in Group::"release", action == Action::"destroy", resource)
when { context.assurance.rung >= 4 } unless { context.risk.known && context.risk.band == "extreme" };
@id("restart") @reason("Restarting is refused while risk is high.")
permit (principal is Person, action == Action::"restart", resource)
when { context.assurance.rung >= 1 } unless { context.risk.known && context.risk.band == "extreme" };
@id("own") @reason("One's own.")
permit (principal is Person, action == Action::"own", resource) when { resource.owner == principal && context.assurance.rung >= 1 };
@id("merge") @reason("Merging is confirmed.") @public_reason("Merging has to be confirmed")
permit (principal is Person, action == Action::"merge", resource) when { context.approvals.confirmed };
@id("pay") @reason("Whoever is signed in pays.")
permit (principal is Person, action == Action::"pay", resource) when { context.assurance.rung >= 1 };
@id("pay.much") @reason("Much money, and what goes abroad, needs a hardware key.") @public_reason("Much money needs a hardware key")
forbid (principal, action == Action::"pay", resource)
when { resource.amount > 1000 || resource.tags.contains("abroad") } unless { context.assurance.rung >= 4 };
@id("pay.final") @reason("What is final is paid in euros.")
forbid (principal, action == Action::"pay", resource) when { resource.final && !(resource.currency like "EU*") };
`

// place is a whole server on a port, with resource servers that are its clients and
// somebody who can sign in.
type place struct {
	testing.TB
	issuer string
	st     *server.State
	srv    *server.Server
	ahead  atomic.Int64 // of the server's clock
	http   *http.Client
	dana   *actor.Browser
	app    client.Client
	groups map[string]string
	secret map[string]string // of clients
	n      int64             // version of the policies
	doc    *document
}

func ok(t testing.TB, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// serve is a server with nothing in it but what every one has.
func serve(t testing.TB) *place {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	ok(t, err)
	p := &place{
		TB: t, issuer: fmt.Sprintf("http://localhost:%d", l.Addr().(*net.TCPAddr).Port), http: &http.Client{Timeout: 15 * time.Second},
		groups: map[string]string{}, secret: map[string]string{},
	}
	dir := t.TempDir()
	cfg, err := config.Parse(fmt.Appendf(nil, "issuer: %s\nlisten: {address: %q}\ndata_dir: %q\ndevelopment: true\ndatabase: {sqlite: %q}\n", p.issuer, l.Addr(), dir, filepath.Join(dir, "db")), nil)
	ok(t, err)
	p.st, err = server.OpenState(t.Context(), cfg, server.Options{Migrate: true, Now: func() time.Time { return time.Now().Add(time.Duration(p.ahead.Load())) }})
	ok(t, err)
	p.srv, err = server.New(p.st)
	ok(t, err)
	ctx, stop := context.WithCancel(context.Background())
	done := make(chan error, 1)
	go func() { done <- p.srv.Run(ctx, server.Listeners{Public: l}) }()
	t.Cleanup(func() {
		p.http.CloseIdleConnections()
		stop()
		ok(t, <-done)
		ok(t, p.st.Close())
	})
	return p
}

func open(t testing.TB) *place {
	p := serve(t)
	for _, g := range []string{"admin", "evil_genius", "editor", "viewer", "release"} {
		p.groups[g] = id.New(id.Group)
		p.seed(audit.GroupCreated, group.Create{Group: group.Group{ID: p.groups[g], Name: g, Kind: group.Plain, CreatedAt: time.Now()}})
	}
	link, err := p.st.SetupLink(t.Context(), policy.KindSystem)
	ok(t, err)
	p.dana = actor.New(p.issuer, nil)
	t.Cleanup(p.dana.Close)
	ok(t, p.dana.SetUp(link, "Dana Example", "dana"))
	dana, err := p.st.Store.PersonByUsername(t.Context(), "dana")
	ok(t, err)
	p.join("release", dana.ID)
	p.server("todo-api", todo)
	p.server("deploy-api", deploy)
	v := secret.New(secret.ClientSecret)
	p.secret["app"] = v.Reveal()
	p.app = client.Client{
		ID: id.New(id.Client), ClientID: "app", Name: "App", AuthMethod: client.AuthSecretBasic, SecretHash: hashOf(v), RedirectURIs: []string{"https://app.example/cb"},
		GrantTypes: []client.GrantType{client.AuthorizationCode, client.RefreshToken}, Scopes: []string{"*"}, Resources: []string{"*"},
		FirstParty: true, CreatedAt: time.Now(),
	}
	p.seed(audit.ClientCreated, client.Create{Client: p.app})
	p.publish(schema, rules)
	return p
}

// run is a test on the same place.
func (p *place) run(name string, f func(*testing.T)) {
	was := p.TB
	defer func() { p.TB = was }()
	was.(*testing.T).Run(name, func(t *testing.T) { p.TB = t; f(t) })
}

func (p *place) seed(kind audit.Kind, c interface{ Change() }) {
	p.Helper()
	ok(p.TB, p.st.Seed(p.Context(), kind, c))
}

// join makes somebody a member of a group.
func (p *place) join(name, person string) {
	p.Helper()
	p.seed(audit.GroupJoined, group.Add{Group: p.groups[name], Person: person})
}

// person is an account without a way to sign in.
func (p *place) person(sub, username string, groups ...string) {
	p.Helper()
	var ids []string
	for _, g := range groups {
		ids = append(ids, p.groups[g])
	}
	p.seed(audit.PersonCreated, account.Create{Person: account.Person{ID: id.New(id.Person), Subject: sub, Name: username, Username: username, CreatedAt: time.Now()}, Groups: ids})
}

// server registers a resource and the client that serves it.
func (p *place) server(name, uri string) {
	p.Helper()
	self, err := p.st.Store.ResourceByURI(p.Context(), p.issuer+"/v1")
	ok(p.TB, err)
	v := secret.New(secret.ClientSecret)
	p.secret[name] = v.Reveal()
	svc := client.Service{ID: id.New(id.Service), Subject: id.Random(id.Service), Name: name, Purpose: "serves " + uri, ReviewBy: time.Now().Add(time.Hour), CreatedAt: time.Now()}
	res := resource.Resource{ID: id.New(id.Resource), URI: uri, Name: name, CreatedAt: time.Now(), Scopes: []resource.Scope{
		{Name: "use", Description: "Use it", Kind: "read", Default: true},
		{Name: "strong", Description: "Use it after a recent sign-in", Kind: "admin", Ask: assurance.Ask{Rung: assurance.Phishing, MaxAge: 5 * time.Minute}},
	}}
	c := client.Client{
		ID: id.New(id.Client), ClientID: name, Name: name, AuthMethod: client.AuthSecretBasic, SecretHash: hashOf(v), Service: svc.ID,
		GrantTypes: []client.GrantType{client.ClientCredentials}, Scopes: []string{"feed", "use"}, Resources: []string{self.ID, res.ID}, CreatedAt: time.Now(),
	}
	res.Servers = []string{c.ID}
	p.seed(audit.ClientCreated, client.Create{Client: c, NewService: &svc})
	p.seed(audit.ResourceCreated, resource.Create{Resource: res})
}

// publish puts policies in force beside the default ones.
func (p *place) publish(schema, rules string, exceptions ...policy.Exception) {
	p.Helper()
	src := policy.Default()
	src.Schema, src.Exceptions = schema, exceptions
	src.Files = append(src.Files, policy.File{Name: "own.cedar", Text: rules})
	_, err := policy.Compile(src)
	ok(p.TB, err)
	p.n++
	p.seed(audit.PolicyPublished, ruleset.Publish{Version: ruleset.Version{N: p.n, Hash: src.Hash(), Source: src, Of: ruleset.NoVersion}})
}

// got is an answer.
type got struct {
	status int
	header http.Header
	text   string
}

// post sends a request as a resource server; nobody if as is "".
func (p *place) post(as, path, body string, header ...string) got {
	p.Helper()
	r, err := http.NewRequest(http.MethodPost, p.issuer+path, strings.NewReader(body))
	ok(p.TB, err)
	r.Header.Set("Content-Type", "application/json")
	if as != "" {
		r.Header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(as+":"+p.secret[as])))
	}
	for i := 0; i+1 < len(header); i += 2 {
		r.Header.Set(header[i], header[i+1])
	}
	return p.send(r)
}

// send sends a request. What it is about, and what comes back, is what the document of
// the API says.
func (p *place) send(r *http.Request) got {
	p.Helper()
	var sent []byte
	if r.GetBody != nil {
		body, err := r.GetBody()
		ok(p.TB, err)
		sent, err = io.ReadAll(body)
		ok(p.TB, err)
	}
	resp, err := p.http.Do(r)
	ok(p.TB, err)
	defer resp.Body.Close()
	text, err := io.ReadAll(resp.Body)
	ok(p.TB, err)
	g := got{resp.StatusCode, resp.Header, string(text)}
	if strings.HasPrefix(r.URL.Path, "/access/") && g.status != http.StatusOK {
		g.code(p.TB)
	}
	p.documented(r, sent, g)
	return g
}

// token is one of Dana's for a resource, without a key: the way there is not what is
// tested here.
func (p *place) token(uri string, scopes ...string) string {
	p.Helper()
	c := actor.Client{Issuer: p.issuer, ID: p.app.ClientID, Secret: p.secret["app"], Redirect: p.app.RedirectURIs[0], HTTP: p.http}
	req := c.NewRequest(uri, scopes...)
	q, err := p.dana.Authorize(req.Query)
	ok(p.TB, err)
	t, err := c.Redeem(req, q.Get("code"))
	ok(p.TB, err)
	return t.Access
}

// machine is a token of a resource server's own service for its resource.
func (p *place) machine(name, uri string) string {
	p.Helper()
	g := p.form(name, "/oauth/token", "grant_type=client_credentials&scope=use&resource="+uri)
	var t actor.Tokens
	ok(p.TB, json.Unmarshal([]byte(g.text), &t))
	if t.Access == "" {
		p.Fatalf("%d %s", g.status, g.text)
	}
	return t.Access
}

func (p *place) form(as, path, body string) got {
	p.Helper()
	return p.post(as, path, body, "Content-Type", "application/x-www-form-urlencoded")
}

// subjectOf is the sub of a token.
func subjectOf(t testing.TB, token string) string {
	t.Helper()
	b, err := base64.RawURLEncoding.DecodeString(strings.Split(token, ".")[1])
	ok(t, err)
	var c struct{ Sub string }
	ok(t, json.Unmarshal(b, &c))
	return c.Sub
}

func hashOf(v secret.Value) *secret.Hash {
	h := v.Hash()
	return &h
}
