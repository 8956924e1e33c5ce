package pdp_test

import (
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/audit"
	"github.com/countersign-dev/countersign/internal/policy/replay"
	"github.com/countersign-dev/countersign/internal/store"
)

// load reads a file of payloads.
func load[T any](t *testing.T, name string) (out []T) {
	t.Helper()
	b, err := os.ReadFile("testdata/" + name)
	ok(t, err)
	ok(t, json.Unmarshal(b, &out))
	return out
}

// TestAuthZEN is the Authorization API 1.0: the Todo scenario of the working group's
// interoperability tests, the examples of the specification and its errors, and what is
// ours to decide: who asks, what a token shows, what is told.
func TestAuthZEN(t *testing.T) {
	p := open(t)
	for who, groups := range map[string][]string{
		"rick@the-citadel.com": {"admin", "evil_genius"}, "morty@the-citadel.com": {"editor"}, "summer@the-smiths.com": {"editor"}, "beth@the-smiths.com": {"viewer"}, "jerry@the-smiths.com": {"viewer"},
	} {
		p.person(pids[who], who, groups...)
	}
	p.person("alice@example.com", "alice")
	p.person("bob@example.com", "bob")
	p.run("todo", p.todo)
	p.run("specification", p.specification)
	p.run("who asks", p.whoAsks)
	p.run("form", p.form1)
	p.run("tokens", p.tokens)
	p.run("properties", p.properties)
	p.run("nobody is found out", p.existence)
	p.run("the document", p.refuses)
	p.run("recorded", p.recorded) // turns the clock on, and so comes last
}

// pids are the subjects of the Todo scenario.
var pids = map[string]string{
	"rick@the-citadel.com":  "CiRmZDA2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"morty@the-citadel.com": "CiRmZDE2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"summer@the-smiths.com": "CiRmZDI2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"beth@the-smiths.com":   "CiRmZDM2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
	"jerry@the-smiths.com":  "CiRmZDQ2MTRkMy1jMzlhLTQ3ODEtYjdiZC04Yjk2ZjVhNTEwMGQSBWxvY2Fs",
}

type decided struct {
	Decision bool           `json:"decision"`
	Context  map[string]any `json:"context"`
}

func (g got) decided(t testing.TB) (d decided) {
	t.Helper()
	if g.status != http.StatusOK || json.Unmarshal([]byte(g.text), &d) != nil {
		t.Fatalf("%d %s", g.status, g.text)
	}
	return d
}

// code is the stable name with which the text of an error begins.
func (g got) code(t testing.TB) string {
	t.Helper()
	code, _, _ := strings.Cut(g.text, ": ")
	if ref := g.header.Get("Countersign-Ref"); ref == "" || !strings.HasSuffix(g.text, ". Reference: "+ref) || g.header.Get("Content-Type") != "text/plain; charset=utf-8" {
		t.Errorf("%d %v %q is no text of an error", g.status, g.header, g.text)
	}
	return code
}

func (p *place) todo(t *testing.T) {
	for _, c := range load[struct {
		Request  json.RawMessage
		Expected bool
	}](t, "todo.json") {
		if d := p.post("todo-api", "/access/v1/evaluation", string(c.Request)).decided(t); d.Decision != c.Expected {
			t.Errorf("%s: %v", c.Request, d)
		}
	}
	for _, c := range load[struct {
		Request  json.RawMessage
		Expected []bool
	}](t, "todo-batch.json") {
		g := p.post("todo-api", "/access/v1/evaluations", string(c.Request))
		var out struct{ Evaluations []decided }
		if g.status != http.StatusOK || json.Unmarshal([]byte(g.text), &out) != nil || len(out.Evaluations) != len(c.Expected) {
			t.Fatalf("%d %s", g.status, g.text)
		}
		for i, want := range c.Expected {
			if out.Evaluations[i].Decision != want {
				t.Errorf("%s, number %d: %v", c.Request, i, out.Evaluations[i])
			}
		}
	}
}

func (p *place) specification(t *testing.T) {
	for _, c := range load[struct {
		Name, Path, Raw string
		Body, Answer    json.RawMessage
		Status          int
	}](t, "spec.json") {
		body := c.Raw
		if c.Body != nil {
			body = string(c.Body)
		}
		g := p.post("todo-api", c.Path, body)
		if c.Answer == nil {
			if g.status != c.Status || g.code(t) != "invalid_request" {
				t.Errorf("%s: %d %s", c.Name, g.status, g.text)
			}
			continue
		}
		if g.status != c.Status || g.header.Get("Content-Type") != "application/json" {
			t.Errorf("%s: %d %s", c.Name, g.status, g.text)
			continue
		}
		var have, want any
		ok(t, json.Unmarshal([]byte(g.text), &have))
		ok(t, json.Unmarshal(c.Answer, &want))
		if d := cmp.Diff(want, unreferenced(t, have)); d != "" {
			t.Errorf("%s: %s", c.Name, d)
		}
	}
}

// unreferenced puts REF in the place of references, which there are.
func unreferenced(t testing.TB, v any) any {
	switch v := v.(type) {
	case map[string]any:
		for k, x := range v {
			if k == "ref" {
				if s, _ := x.(string); s == "" {
					t.Error("an empty reference")
				}
				v[k] = "REF"
				continue
			}
			v[k] = unreferenced(t, x)
		}
	case []any:
		for i := range v {
			v[i] = unreferenced(t, v[i])
		}
	}
	return v
}

const reads = `{"subject":{"type":"user","id":"alice@example.com"},"action":{"name":"read"},"resource":{"type":"document","id":"1"}}`

func (p *place) whoAsks(t *testing.T) {
	for _, path := range []string{"/access/v1/evaluation", "/access/v1/evaluations", "/access/v1/search/action"} {
		g := p.post("", path, "not even JSON")
		c := g.header.Values("WWW-Authenticate")
		if g.status != http.StatusUnauthorized || g.code(t) != "invalid_client" || len(c) != 2 || !strings.HasPrefix(c[0], "DPoP ") || !strings.HasPrefix(c[1], "Basic ") {
			t.Errorf("%s: %d %v", path, g.status, c)
		}
		if g := p.post("", path, reads, "Authorization", "Bearer "+p.machine("todo-api", todo)); g.status != http.StatusUnauthorized {
			t.Errorf("%s with a bearer token: %d", path, g.status)
		}
	}
	p.secret["no-such-client"] = "x"
	if g := p.post("no-such-client", "/access/v1/evaluation", reads); g.status != http.StatusUnauthorized {
		t.Errorf("%d", g.status)
	}
	// Another resource server learns nothing of an action that is not its own: not even
	// that there is one.
	other := p.post("deploy-api", "/access/v1/evaluation", reads).decided(t)
	none := p.post("deploy-api", "/access/v1/evaluation", strings.Replace(reads, `"read"`, `"no such action"`, 1)).decided(t)
	ours := p.post("deploy-api", "/access/v1/evaluation", strings.Replace(reads, `"read"`, `"self.read"`, 1)).decided(t)
	if other.Decision || none.Decision || ours.Decision || len(other.Context) != 1 || len(none.Context) != 1 || len(ours.Context) != 1 {
		t.Errorf("%v %v %v", other, none, ours)
	}
	if g := p.post("deploy-api", "/access/v1/search/action", reads); g.text != `{"page":{"next_token":""},"results":[]}`+"\n" {
		t.Errorf("it finds %s", g.text)
	}
}

func (p *place) form1(t *testing.T) {
	p.discovery(t)
	for _, path := range []string{"/access/v1/search/subject", "/access/v1/search/resource"} { // not announced, and not there
		if g := p.post("todo-api", path, reads); g.status != http.StatusNotFound || g.code(t) != "not_found" {
			t.Errorf("%s: %d", path, g.status)
		}
	}
	for typ, status := range map[string]int{"application/json; charset=utf-8": 200, "text/json": 400, "": 400, "application/x-www-form-urlencoded": 400} {
		if g := p.post("todo-api", "/access/v1/evaluation", reads, "Content-Type", typ); g.status != status {
			t.Errorf("%q: %d", typ, g.status)
		}
	}
	for _, method := range []string{http.MethodGet, http.MethodPut, http.MethodDelete} {
		r, err := http.NewRequest(method, p.issuer+"/access/v1/evaluation", nil)
		ok(t, err)
		if g := p.send(r); g.status != http.StatusMethodNotAllowed || g.code(t) != "method_not_allowed" || g.header.Get("Allow") != "POST" {
			t.Errorf("%s: %d %v", method, g.status, g.header)
		}
	}
	if g := p.post("todo-api", "/access/v1/evaluation", reads, "X-Request-ID", "bfe9eb29-ab87-4ca3-be83-a1d5d8305716"); g.header.Get("X-Request-ID") != "bfe9eb29-ab87-4ca3-be83-a1d5d8305716" {
		t.Errorf("%v", g.header)
	}
	if g := p.post("todo-api", "/access/v1/evaluation", "{}", "X-Request-ID", "x"); g.header.Get("X-Request-ID") != "x" || g.status != http.StatusBadRequest { // an error has it, too
		t.Errorf("%d %v", g.status, g.header)
	}
	if g := p.post("todo-api", "/access/v1/evaluation", reads); g.header.Get("X-Request-ID") != "" {
		t.Errorf("%v", g.header)
	}
	if g := p.post("todo-api", "/access/v1/evaluation", reads, "X-Request-ID", strings.Repeat("x", 201)); g.header.Get("X-Request-ID") != "" || g.status != 200 {
		t.Errorf("%d %v", g.status, g.header)
	}
	for _, body := range []string{strings.Replace(reads, `"1"`, `"1\u0000"`, 1), strings.Replace(reads, `"id":"1"`, `"id":"1","properties":{"owner":"x\u0000"}`, 1)} {
		if g := p.post("todo-api", "/access/v1/evaluation", body); g.status != http.StatusBadRequest {
			t.Errorf("a NUL: %d", g.status)
		}
	}
	many := strings.TrimSuffix(strings.Repeat(`{"resource":{"type":"document","id":"1"}},`, 201), ",")
	if g := p.post("todo-api", "/access/v1/evaluations", `{"evaluations":[`+many+`]}`); g.status != http.StatusBadRequest {
		t.Errorf("%d", g.status)
	}
	if g := p.post("todo-api", "/access/v1/evaluation", `{"x":"`+strings.Repeat("x", 300<<10)+`"}`); g.status != http.StatusBadRequest {
		t.Errorf("%d", g.status)
	}
}

// question is about Dana, or a machine, at the deploying API.
func question(kind, sub, action, token string) string {
	context := ""
	if token != "" {
		context = fmt.Sprintf(`,"context":{"access_token":%q}`, token)
	}
	return fmt.Sprintf(`{"subject":{"type":%q,"id":%q},"action":{"name":%q},"resource":{"type":"Cluster","id":"prod","properties":{"owner":%q}}%s}`, kind, sub, action, sub, context)
}

func (p *place) tokens(t *testing.T) {
	ask := func(body string) decided {
		t.Helper()
		return p.post("deploy-api", "/access/v1/evaluation", body).decided(t)
	}
	token := p.token(deploy, "use")
	sub := subjectOf(t, token)
	for action, want := range map[string]bool{"look": true, "deploy": true, "restart": true, "own": true, "destroy": false} {
		if d := ask(question("person", sub, action, token)); d.Decision != want {
			t.Errorf("%s: %v", action, d)
		}
	}
	// What would do (mechanisms A27), and the policy's public reason (A10).
	d := ask(question("user", sub, "destroy", token))
	if d.Context["acr_values"] != "phrh" || d.Context["max_age"] != nil || fmt.Sprint(d.Context["reason_user"]) != "map[en:Destroying needs a hardware key]" || d.Context["ref"] == "" {
		t.Errorf("%v", d)
	}
	// Without a token nothing is proved.
	d = ask(question("user", sub, "deploy", ""))
	if d.Decision || d.Context["acr_values"] != "phr phrh" || d.Context["max_age"] != float64(300) {
		t.Errorf("%v", d)
	}
	// What nobody can give is no challenge (A7).
	if d := ask(question("user", sub, "merge", token)); d.Decision || len(d.Context) != 1 || d.Context["ref"] == "" {
		t.Errorf("%v", d)
	}
	// A token of somebody else, for another resource, of another kind, or none at all.
	machine := p.machine("deploy-api", deploy)
	for name, body := range map[string]string{
		"another's":   question("person", "alice@example.com", "look", token),
		"of a person": question("service", sub, "look", token),
		"elsewhere's": question("person", sub, "look", p.token(todo, "use")),
		"broken":      question("person", sub, "look", token[:len(token)-4]),
		"none":        question("person", sub, "look", "x.y.z"),
		"a machine's": question("person", subjectOf(t, machine), "look", machine),
	} {
		if d := ask(body); d.Decision || fmt.Sprint(d.Context["error"]) != "map[message:The access token does not count here, or is of another subject. status:401]" || d.Context["acr_values"] != nil {
			t.Errorf("%s: %v", name, d)
		}
	}
	// A machine is told what its client would have to bring, and never of a sign-in (A26).
	if d := ask(question("service", subjectOf(t, machine), "look", machine)); !d.Decision {
		t.Errorf("%v", d)
	}
	if d := ask(question("service", subjectOf(t, machine), "deploy", machine)); d.Decision || d.Context["client_assurance"] != "m3" || d.Context["acr_values"] != nil {
		t.Errorf("%v", d)
	}
	// A token grows old.
	p.ahead.Store(int64(5*time.Minute + time.Second))
	defer p.ahead.Store(0)
	if d := ask(question("person", sub, "look", token)); d.Decision || d.Context["error"] == nil {
		t.Errorf("an old token: %v", d)
	}
}

// payments are what is said of a payment, and the answer to whoever is signed in with a
// passkey: 200, 401 with what would do, 403, and 400 of what is not said as it is declared.
var payments = map[string]int{
	`"amount":1000,"currency":"EUR","final":false,"tags":[]`:                                  200,
	`"amount":1e3,"currency":"EUR","final":true,"tags":["rent","rent"]`:                       200,
	`"amount":1001,"currency":"EUR","final":false,"tags":[]`:                                  401,
	`"amount":-5,"currency":"EUR","final":false,"tags":["rent","abroad"]`:                     401,
	`"amount":9007199254740991,"currency":"EUR","final":false,"tags":[]`:                      401,
	`"amount":5,"currency":"USD","final":true,"tags":[]`:                                      403,
	`"amount":5,"currency":"USD","final":false,"tags":[],"colour":{"deep":[1.5,null]}`:        200, // others are passed over
	`"currency":"EUR","final":false,"tags":[]`:                                                400,
	`"amount":"5","currency":"EUR","final":false,"tags":[]`:                                   400,
	`"amount":5.5,"currency":"EUR","final":false,"tags":[]`:                                   400,
	`"amount":5,"currency":null,"final":false,"tags":[]`:                                      400,
	`"amount":5,"currency":"EUR","final":"false","tags":[]`:                                   400,
	`"amount":5,"currency":"EUR","final":false,"tags":"rent"`:                                 400,
	`"amount":5,"currency":"EUR","final":false,"tags":["rent",5]`:                             400,
	`"amount":5,"currency":"` + strings.Repeat("x", 513) + `","final":false,"tags":[]`:        400,
	`"amount":5,"currency":"EUR","final":false,"tags":["a` + strings.Repeat(`","`, 64) + `"]`: 400,
}

func paying(sub, token, said string) string {
	q := strings.Replace(question("person", sub, "pay", token), `"type":"Cluster"`, `"type":"Payment"`, 1)
	return strings.Replace(q, `"properties":{`, `"properties":{`+said+`,`, 1)
}

// properties: what a resource server says of its things decides, and has to be as the
// schema declares it; of several questions one that does not is refused in its place. A
// resource server that may not ask is told nothing of what is declared.
func (p *place) properties(t *testing.T) {
	token := p.token(deploy, "use")
	sub := subjectOf(t, token)
	for said, want := range payments {
		g := p.post("deploy-api", "/access/v1/evaluation", paying(sub, token, said))
		if want == 400 {
			if g.status != 400 || !strings.HasPrefix(g.text, "invalid_request") || !strings.Contains(g.text, "Of resource.properties, ") {
				t.Errorf("%.80s: %d %s", said, g.status, g.text)
			}
			continue
		}
		if d := g.decided(t); d.Decision != (want == 200) || (d.Context["acr_values"] == "phrh") != (want == 401) {
			t.Errorf("%.80s: %v", said, d)
		}
	}
	good, bad := paying(sub, token, `"amount":5,"currency":"EUR","final":false,"tags":[]`), paying(sub, token, `"amount":5,"final":false,"tags":[]`)
	g := p.post("deploy-api", "/access/v1/evaluations", `{"evaluations":[`+bad+","+good+","+strings.Replace(good, `"amount":5`, `"amount":5000`, 1)+`]}`)
	var out struct{ Evaluations []decided }
	ok(t, json.Unmarshal([]byte(g.text), &out))
	if len(out.Evaluations) != 3 || out.Evaluations[0].Decision || !out.Evaluations[1].Decision || out.Evaluations[2].Decision ||
		fmt.Sprint(out.Evaluations[0].Context["error"]) != "map[message:Of resource.properties, currency is missing; it is a String. status:400]" {
		t.Errorf("%s", g.text)
	}
	if g := p.post("deploy-api", "/access/v1/search/action", bad); g.status != 400 {
		t.Errorf("a search: %d %s", g.status, g.text)
	}
	if g := p.post("deploy-api", "/access/v1/search/action", good); !strings.Contains(g.text, `"pay"`) {
		t.Errorf("a search: %d %s", g.status, g.text)
	}
	if d := p.post("todo-api", "/access/v1/evaluation", paying("alice@example.com", "", `"amount":5`)).decided(t); d.Decision || len(d.Context) != 1 {
		t.Errorf("another resource server is told %v", d)
	}
	// What the decision saw is in its record.
	page, err := p.st.Store.Decisions(t.Context(), p.st.Names, time.Now().Add(-time.Hour), time.Time{}, "", 1000)
	ok(t, err)
	kept := map[string]bool{}
	page.Each(func(d *replay.Decision) {
		if d.Facts.Action == "pay" {
			kept[fmt.Sprintf("%s %v", d.Facts.Outcome, d.Saw.Said)] = true
		}
	})
	if !kept["step_up map[amount:-5 currency:EUR final:false tags:[abroad rent]]"] || !kept["deny map[amount:5 currency:USD final:true tags:[]]"] {
		t.Errorf("%v", kept)
	}
	// Whether or not there is such a person.
	for _, sub := range []string{"alice@example.com", "nobody"} {
		if d := p.post("deploy-api", "/access/v1/evaluation", paying(sub, "", `"amount":5000,"currency":"EUR","final":false,"tags":[]`)).decided(t); d.Decision || d.Context["acr_values"] != "phrh" {
			t.Errorf("%s: %v", sub, d)
		}
		if g := p.post("deploy-api", "/access/v1/evaluation", paying(sub, "", `"amount":5`)); g.status != 400 {
			t.Errorf("%s: %d", sub, g.status)
		}
	}
}

// existence: the same bytes whether or not there is such a person, and such a thing.
func (p *place) existence(t *testing.T) {
	text := func(sub, id string) string {
		body := fmt.Sprintf(`{"subject":{"type":"user","id":%q},"action":{"name":"deploy"},"resource":{"type":"Cluster","id":%q}}`, sub, id)
		var v any
		ok(t, json.Unmarshal([]byte(p.post("deploy-api", "/access/v1/evaluation", body).text), &v))
		b, err := json.Marshal(unreferenced(t, v))
		ok(t, err)
		return string(b)
	}
	known := text("alice@example.com", "prod")
	for _, other := range []string{text("nobody", "prod"), text("alice@example.com", "no such thing"), text("nobody", "no such thing"), text("bob@example.com", "prod")} {
		if other != known {
			t.Errorf("%s and %s", known, other)
		}
	}
	// Nor by what is said to be theirs.
	owns := func(sub string) string {
		var v any
		ok(t, json.Unmarshal([]byte(p.post("deploy-api", "/access/v1/evaluation", question("user", sub, "own", "")).text), &v))
		b, err := json.Marshal(unreferenced(t, v))
		ok(t, err)
		return string(b)
	}
	if known := owns("alice@example.com"); known != owns("nobody") || !strings.Contains(known, "acr_values") {
		t.Errorf("%s and %s", known, owns("nobody"))
	}
}

// recorded: an answer once a minute, with what was decided on.
func (p *place) recorded(t *testing.T) {
	count := func() (n int, last string) {
		lines, _, err := p.st.Lines(t.Context(), store.Filter{Kinds: []audit.Kind{audit.AccessDecided}}, 200)
		ok(t, err)
		if len(lines) > 0 {
			last = lines[0].Sentence
		}
		return len(lines), last
	}
	before, _ := count()
	stats := p.srv.Decisions()
	p.ahead.Store(int64(2*time.Minute - time.Duration(time.Now().Second())*time.Second)) // another minute, at its beginning
	defer p.ahead.Store(0)
	for range 5 {
		p.post("todo-api", "/access/v1/evaluation", strings.Replace(reads, "alice@", "bob@", 1)).decided(t)
	}
	after, last := count()
	if after-before != 1 && before < 200 || last != "Bob may do read at todo-api" {
		t.Errorf("%d records more: %q", after-before, last)
	}
	if now := p.srv.Decisions(); now.Allowed-stats.Allowed != 5 || now.Recorded-stats.Recorded != 1 {
		t.Errorf("%+v, was %+v", now, stats)
	}
}
