package pep_test

import (
	"encoding/json"
	"errors"
	"maps"
	"math"
	"net/http"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/countersign-dev/countersign"
	"github.com/countersign-dev/countersign/internal/jose"
)

const paySchema = `
entity Payment { owner: Person, amount: Long, currency: String, final: Bool, tags: Set<String> };
@audience("https://deploy.example.com") @outage("last")
action "pay" appliesTo { principal: [Person, Service], resource: [Payment], context: Context };
@audience("https://deploy.example.com")
action "sign" appliesTo { principal: [Person], resource: [Payment], context: Context };
@audience("https://deploy.example.com") @outage("last")
action "restart" appliesTo { principal: [Person], resource: [Payment], context: Context };
`

const payRules = `
@id("restart") @reason("r") permit (principal is Person, action == Action::"restart", resource) unless { context.risk.known && context.risk.band == "extreme" };
@id("pay") @reason("r") permit (principal is Person, action == Action::"pay", resource) when { context.assurance.rung >= 1 };
@id("much") @reason("r") @public_reason("Much money needs a recent key") forbid (principal, action == Action::"pay", resource)
when { resource.amount > 1000 || resource.tags.contains("abroad") } unless { context.assurance.age.phr <= duration("5m") };
@id("final") @reason("r") forbid (principal, action == Action::"pay", resource) when { resource.final && resource.currency != "EUR" };
@id("sign") @reason("r") permit (principal is Person, action == Action::"sign", resource) unless { context.risk.band == "extreme" && resource.amount > 5 };
`

// paid is a payment of which something else is said.
func paid(edit map[string]any) countersign.Resource {
	said := map[string]any{"amount": 1000, "currency": "EUR", "final": false, "tags": []string{"rent"}}
	maps.Copy(said, edit)
	for name, v := range said {
		if v == nil {
			delete(said, name)
		}
	}
	return countersign.Resource{Type: "Payment", ID: "p1", Properties: said}
}

type (
	money int
	label string
)

// hidden is a label that writes itself in another way than it is.
type hidden label

func (hidden) MarshalJSON() ([]byte, error) { return []byte(`"***"`), nil }

func newPayments(t testing.TB) *issuer {
	i := newIssuer(t)
	i.schema, i.rules = paySchema, payRules
	i.publish(1, 2)
	return i
}

// TestProperties: policies read what the resource server says of its things, without
// asking; and what it does not say as it is declared is a fault of the program, with
// which nothing is allowed and nobody asked.
func TestProperties(t *testing.T) {
	i := newPayments(t)
	v := i.ready(i.point())
	old := holder{sub: dana, acr: "phr", ago: time.Hour}
	for name, c := range map[string]struct {
		on     countersign.Resource
		status int
		says   string
	}{
		"little":          {paid(nil), 200, ""},
		"much":            {paid(map[string]any{"amount": 1001}), 401, "Much money needs a recent key"},
		"much, by a type": {paid(map[string]any{"amount": money(1001)}), 401, "Much money"},
		"a tag":           {paid(map[string]any{"tags": []label{"rent", "abroad"}}), 401, "Much money"},
		"a final one":     {paid(map[string]any{"final": true}), 200, ""},
		"a foreign one":   {paid(map[string]any{"final": true, "currency": label("USD")}), 403, ""},
		"more is said":    {paid(map[string]any{"colour": 1.5}), 200, ""},
		"nothing is said": {countersign.Resource{Type: "Payment", ID: "p1"}, 500, ""},
		"one is missing":  {paid(map[string]any{"final": nil}), 500, ""},
		"a wrong type":    {paid(map[string]any{"amount": "1000"}), 500, ""},
		"a fraction":      {paid(map[string]any{"amount": 0.5}), 500, ""},
	} {
		w := i.tries(v, old, "pay", c.on)
		if got := strings.Join(w.Header().Values("WWW-Authenticate"), "|"); w.Code != c.status || !strings.Contains(got, c.says) {
			t.Errorf("%s: %d %q", name, w.Code, got)
		}
	}
	if w := i.tries(v, holder{sub: dana, acr: "phr"}, "pay", paid(map[string]any{"amount": 5000})); w.Code != 200 {
		t.Errorf("with a recent key: %d", w.Code)
	}
	r := httptest.NewRequest(http.MethodPost, aud+"/", nil)
	r.Header.Set("Authorization", "Bearer "+i.token(old))
	token, err := v.Verify(r)
	ok(t, err)
	var fault *countersign.PropertyError
	if err := v.Authorize(t.Context(), token, "sign", paid(map[string]any{"amount": nil})); !errors.As(err, &fault) || err.Error() != "countersign: of a Payment, the property amount is missing; it is a Long" {
		t.Errorf("%v", err)
	}
	if n := i.asked.Load(); n != 0 {
		t.Errorf("asked %d times", n)
	}
	equal(t, metrics(t, v), map[string]float64{
		`countersign_decisions_total{by="policies",outcome="fault"}`: 5, `countersign_decisions_total{by="policies",outcome="unavailable"}`: 0,
	})
}

// TestPropertiesAreAsked: what the issuer decides it is asked with what is said, all of
// it that policies could read, and as they read it here; whose the thing is, only Owner says.
func TestPropertiesAreAsked(t *testing.T) {
	i := newPayments(t)
	v := i.ready(i.point())
	i.say(`{"decision":true}`)
	on := paid(map[string]any{"colour": "red", "owner": "usr_evil", "ownerID": "evil", "amount": money(3), "currency": hidden("USD"), "odd": math.NaN(), "bad": "\xff", "a b": "c"})
	for _, owner := range []string{"", sam} {
		on.Owner = owner
		if w := i.tries(v, holder{sub: dana, acr: "phr"}, "sign", on); w.Code != 200 {
			t.Errorf("%d", w.Code)
		}
		var q struct {
			Resource struct {
				Properties map[string]any `json:"properties"`
			} `json:"resource"`
		}
		i.mu.Lock()
		ok(t, json.Unmarshal(i.question, &q))
		i.mu.Unlock()
		p := q.Resource.Properties
		want := 5
		if owner != "" {
			want = 6
		}
		if said, _ := p["owner"].(string); len(p) != want || said != owner || p["ownerID"] != nil || p["amount"] != 3.0 || p["colour"] != "red" || p["final"] != false || p["currency"] != "USD" {
			t.Errorf("%v", p)
		}
	}
	if on.Properties["owner"] != "usr_evil" {
		t.Error("what the program said is changed")
	}
}

// TestTypedBundlesAreOfAnotherFormat: an SDK of before, which knows nothing of what is
// said, does not take such a bundle, and one without attributes as ever.
func TestTypedBundlesAreOfAnotherFormat(t *testing.T) {
	typed, plain := newPayments(t), newIssuer(t)
	for i, want := range map[*issuer]int{typed: jose.BundleTyped, plain: jose.BundleFormat} {
		var c jose.BundleContent
		ok(t, json.Unmarshal([]byte(i.text), &c))
		if c.Format != want || (len(c.Types) > 0) != (want == jose.BundleTyped) {
			t.Errorf("%+v", c)
		}
	}
}
