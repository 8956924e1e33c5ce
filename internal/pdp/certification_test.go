package pdp_test

import (
	"encoding/json"
	"net/http"
	"os"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/examples/records"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/trial"
	"github.com/countersign-dev/countersign/internal/problem"
	"github.com/countersign-dev/countersign/internal/server"
)

// The paths that the certification asks at.
const (
	one    = "/access/v1/evaluation"
	many   = "/access/v1/evaluations"
	action = "/access/v1/search/action"
)

// asked is a question of the scenario.
func asked(sub, does, record string) string {
	return strings.NewReplacer("SUB", sub, "DOES", does, "RECORD", record).Replace(
		`{"subject":{"type":"user","id":"SUB"},"action":{"name":"DOES"},"resource":{"type":"record","id":"RECORD"}}`)
}

// TestCertification is the certification scenario of AuthZEN 1.0, by the numbers of its
// sections, on what the sandbox loads with --authzen: Basic Core, Batch Core, Discovery,
// and of Search what is about actions. Every body is one that it sends.
func TestCertification(t *testing.T) {
	p := serve(t)
	fixture := server.Fixture{Audience: records.Audience, Client: records.Client, People: records.People}
	if _, err := p.st.SeedFixture(t.Context(), fixture); problem.CodeOf(err) != "policies_own" {
		t.Errorf("beside policies that say nothing of it: %v", err)
	}
	p.publish(records.Schema, records.Policies)
	for range 2 { // the second start gives another secret, and makes nothing twice
		v, err := p.st.SeedFixture(t.Context(), fixture)
		ok(t, err)
		p.secret[records.Client] = v.Reveal()
	}
	p.run("policies", p.ownTrials)
	p.run("basic", p.basic)
	p.run("batch", p.batch)
	p.run("search", p.search)
	p.run("discovery", p.discovery)
}

// ownTrials: the tests beside the policies of the fixture hold.
func (p *place) ownTrials(t *testing.T) {
	text, err := os.ReadFile("../../examples/records/policies/records.policy.yaml")
	ok(t, err)
	f, err := trial.Parse("records.policy.yaml", text)
	ok(t, err)
	set, err := policy.Compile(policy.Source{Schema: records.Schema, Files: []policy.File{{Name: "records.cedar", Text: records.Policies}}})
	ok(t, err)
	for _, r := range trial.Test(set, f) {
		if r.Bad() {
			t.Errorf("%+v", r)
		}
	}
}

func (p *place) certify(path, body string, header ...string) got {
	p.Helper()
	return p.post(records.Client, path, body, header...)
}

func (p *place) basic(t *testing.T) {
	const reads = `"action":{"name":"read"},"resource":{"type":"record","id":"record-1"}`
	const alice = `"subject":{"type":"user","id":"alice"}`
	for name, c := range map[string]struct {
		body string
		want bool
	}{
		"rule 1, 2.2.1": {asked("alice", "read", "record-1"), true},
		"rule 2":        {asked("alice", "write", "record-1"), true},
		"rule 3":        {asked("bob", "read", "record-1"), true},
		"rule 4, 2.2.2": {asked("bob", "write", "record-1"), false},
		"2.2.3":         {`{` + alice + `,` + reads + `,"context":{"time":"2025-06-27T18:03-07:00","ip":"192.168.1.1"}}`, true},
		"2.2.8": {`{"subject":{"type":"user","id":"alice","properties":{"department":"Sales","role":"manager"}},"action":{"name":"read","properties":{"method":"GET"}},
			"resource":{"type":"record","id":"record-1","properties":{"status":"active","owner":"bob"}}}`, true},
		"2.2.9": {`{` + alice + `,` + reads + `,"foo":"bar","futureField":{"nested":true}}`, true},
	} {
		for range 3 { // 2.6: the same each time
			var d map[string]any
			if g := p.certify(one, c.body); g.status != http.StatusOK || g.header.Get("Content-Type") != "application/json" || json.Unmarshal([]byte(g.text), &d) != nil || d["decision"] != c.want {
				t.Errorf("%s: %d %s", name, g.status, g.text)
			}
		}
	}
	whole := asked("alice", "read", "record-1")
	for name, body := range map[string]string{ // 2.4
		"no subject": `{` + reads + `}`, "no action": `{` + alice + `,"resource":{"type":"record","id":"record-1"}}`, "no resource": `{` + alice + `,"action":{"name":"read"}}`,
		"a subject of no type": strings.Replace(whole, `"type":"user",`, "", 1), "a subject without id": strings.Replace(whole, `,"id":"alice"`, "", 1),
		"an action without name": strings.Replace(whole, `"name":"read"`, "", 1), "a resource of no type": strings.Replace(whole, `"type":"record",`, "", 1),
		"a resource without id": strings.Replace(whole, `,"id":"record-1"`, "", 1), "a subject that is text": strings.Replace(whole, `{"type":"user","id":"alice"}`, `"alice"`, 1),
		"an action that is a number": strings.Replace(whole, `"name":"read"`, `"name":123`, 1), "no JSON": `{"subject":`, "nothing": "", "a list": `[` + whole + `]`,
	} {
		if g := p.certify(one, body); g.status != http.StatusBadRequest || g.code(t) != "invalid_request" {
			t.Errorf("%s: %d %s", name, g.status, g.text)
		}
	}
	if g := p.certify(one, whole, "Content-Type", "text/plain"); g.status != http.StatusBadRequest {
		t.Errorf("2.4.3: %d", g.status)
	}
	if g := p.certify(one, whole, "X-Request-ID", "abc-123"); g.header.Get("X-Request-ID") != "abc-123" {
		t.Errorf("2.5.1: %v", g.header)
	}
}

func (p *place) batch(t *testing.T) {
	const alice = `"subject":{"type":"user","id":"alice"},"action":{"name":"read"}`
	const record1, record2 = `{"type":"record","id":"record-1"}`, `{"type":"record","id":"record-2"}`
	for name, c := range map[string]struct {
		body string
		want []bool
	}{
		"3.2.1": {`{` + alice + `,"evaluations":[{"resource":` + record1 + `},{"resource":` + record2 + `}]}`, []bool{true, true}},
		"3.2.2": {`{"subject":{"type":"user","id":"bob"},"resource":` + record1 + `,"evaluations":[{"action":{"name":"read"}},{"action":{"name":"write"}}]}`, []bool{true, false}},
		"3.2.5": {`{"evaluations":[` + asked("alice", "read", "record-1") + `,` + asked("bob", "write", "record-1") + `]}`, []bool{true, false}},
		"3.2.6": {`{` + alice + `,"context":{"time":"2025-06-27T18:03-07:00"},"evaluations":[{"resource":` + record1 + `},
			{"resource":` + record2 + `,"context":{"time":"2025-06-27T19:00-07:00","source":"batch-override"}}]}`, []bool{true, true}},
		"3.4.1": {`{` + alice + `,"evaluations":[{"resource":` + record1 + `},{}]}`, []bool{true, false}},
	} {
		var out struct {
			Evaluations []struct {
				Decision *bool
				Context  struct{ Error *struct{ Status int } }
			}
		}
		g := p.certify(many, c.body)
		if g.status != http.StatusOK || json.Unmarshal([]byte(g.text), &out) != nil || len(out.Evaluations) != len(c.want) {
			t.Errorf("%s: %d %s", name, g.status, g.text)
			continue
		}
		for i, e := range out.Evaluations {
			if e.Decision == nil || *e.Decision != c.want[i] {
				t.Errorf("%s: %s", name, g.text)
			}
			if bad := name == "3.4.1" && i == 1; bad != (e.Context.Error != nil) || bad && e.Context.Error.Status != http.StatusBadRequest {
				t.Errorf("%s: %s", name, g.text)
			}
		}
	}
	for _, body := range []string{asked("alice", "read", "record-1"), strings.TrimSuffix(asked("alice", "read", "record-1"), "}") + `,"evaluations":[]}`} { // 3.4.2, 3.4.3
		if g := p.certify(many, body); g.text != `{"decision":true}`+"\n" {
			t.Errorf("%d %s", g.status, g.text)
		}
	}
	if g := p.certify(many, `{"evaluations":`); g.status != http.StatusBadRequest {
		t.Errorf("%d", g.status)
	}
}

func (p *place) search(t *testing.T) {
	body := func(sub string) string {
		return strings.Replace(asked(sub, "", "record-1"), `"action":{"name":""},`, "", 1)
	}
	for name, c := range map[string]struct {
		body string
		want []string
	}{
		"4.4.1": {body("alice"), []string{"read", "write"}}, "of bob": {body("bob"), []string{"read"}},
		"4.4.2": {strings.TrimSuffix(body("alice"), "}") + `,"context":{"time":"2025-06-27T18:03-07:00"}}`, []string{"read", "write"}},
		"4.5.1": {strings.TrimSuffix(body("alice"), "}") + `,"page":{"limit":1}}`, []string{"read", "write"}},
		"4.6.1": {body("nonexistent-user"), nil}, "4.6.2": {strings.Replace(body("alice"), `"user"`, `"spaceship"`, 1), nil},
	} {
		var out struct {
			Page struct {
				NextToken *string `json:"next_token"`
			}
			Results []struct{ Name string }
		}
		g := p.certify(action, c.body)
		if g.status != http.StatusOK || json.Unmarshal([]byte(g.text), &out) != nil || out.Page.NextToken == nil || *out.Page.NextToken != "" || out.Results == nil {
			t.Errorf("%s: %d %s", name, g.status, g.text)
		}
		var names []string
		for _, r := range out.Results {
			names = append(names, r.Name)
		}
		if !slices.Equal(names, c.want) {
			t.Errorf("%s: %s", name, g.text)
		}
	}
	if g := p.certify(action, `{"subject":{"type":"user","id":"alice"}}`); g.status != http.StatusBadRequest { // 4.7.1
		t.Errorf("%d", g.status)
	}
}

func (p *place) discovery(t *testing.T) {
	r, err := http.NewRequest(http.MethodGet, p.issuer+"/.well-known/authzen-configuration", nil)
	ok(t, err)
	g := p.send(r)
	var have map[string]string
	ok(t, json.Unmarshal([]byte(g.text), &have))
	want := map[string]string{"policy_decision_point": p.issuer, "access_evaluation_endpoint": p.issuer + one, "access_evaluations_endpoint": p.issuer + many, "search_action_endpoint": p.issuer + action}
	if d := cmp.Diff(want, have); d != "" || g.status != http.StatusOK || g.header.Get("Content-Type") != "application/json" {
		t.Errorf("%d %v %s", g.status, g.header, d)
	}
}
