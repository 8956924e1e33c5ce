package admin_test

import (
	"encoding/json"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/policy/replay"
)

// What was decided is read page by page, by who may, each reading recorded; tried on
// it, policies say whom they would stop.
func TestDecisionsAreReadToTryPolicies(t *testing.T) {
	t.Parallel()
	r, l := boss(t)
	sam := r.login(r.person("sam"), everything)
	r.want(l.do("POST", "/v1/clients", aClient("one")), 201, "")
	r.want(l.do("POST", "/v1/clients", aClient("two")), 201, "")
	r.want(sam.do("POST", "/v1/clients", aClient("three")), 403, "denied")
	r.want(sam.do("GET", "/v1/decisions", nil), 403, "denied")

	src := policy.Default()
	src.Files = append(src.Files, policy.File{Name: "99-more.cedar", Text: noClients})
	set, err := policy.Compile(src)
	r.ok(err)
	tr, pages := replay.New(set), 0
	for after, rest := "", ""; ; pages++ {
		a := r.want(l.do("GET", "/v1/decisions", nil, query("limit=3&policy="+set.Version()+rest)), 200, "")
		var p replay.Decisions
		r.ok(json.Unmarshal(a.text, &p))
		if !tr.AddPage(&p) || pages > 20 {
			t.Fatalf("page %d: %s", pages, a.text)
		}
		if after = p.Next; after == "" || p.At == nil {
			break
		}
		rest = "&after=" + after + "&until=" + r.time().Add(time.Second).Format(time.RFC3339)
	}
	l.logged("policy.replayed", "Name of dana read recorded decisions, to try policies "+set.Version()+" on them")
	got := tr.Report(10)
	if pages < 1 || got.Blocked != 2 || got.Prompted != 0 || len(got.Rows) == 0 || got.Rows[0].Who != l.person.ID || got.Rows[0].Blocked != 2 || len(got.Rules) != 1 || got.Rules[0].Policy != "freeze.clients" {
		t.Errorf("%d pages, %+v", pages, got)
	}
	if a := r.want(l.do("GET", "/v1/decisions", nil, query("from="+r.time().Add(time.Hour).Format(time.RFC3339))), 200, ""); !strings.Contains(string(a.text), `"items":[]`) {
		t.Errorf("%s", a.text)
	}
	r.want(l.do("GET", "/v1/decisions", nil, query("limit=5001")), 400, "request_invalid")
	r.pass(20 * time.Minute)
	l.token = l.mint(everything)
	r.want(l.do("GET", "/v1/decisions", nil), 401, policy.CodeStepUp)
}
