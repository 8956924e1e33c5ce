package resource

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"pgregory.net/rapid"

	"github.com/countersign-dev/countersign/internal/problem"
)

const paySchema = `{"type":"object","required":["type","payee","amount"],"additionalProperties":false,"properties":{
"type":{"const":"payment"},"payee":{"type":"string"},"actions":{"type":"array","items":{"enum":["initiate","status","cancel"]}},
"path":{"type":"string"},"since":{"type":"number"},
"amount":{"type":"object","required":["value","currency"],"additionalProperties":false,"properties":{"value":{"type":"string"},"currency":{"type":"string"}}}}}`

func payment() DetailsType {
	return DetailsType{
		Name: "payment", Schema: json.RawMessage(paySchema), Template: "Pay {amount.value} {amount.currency} to {payee}",
		Narrower: map[string]string{"actions": Subset, "amount.value": AtMost, "path": Prefix, "since": AtLeast},
	}
}

func known(name string) (DetailsType, bool) { return payment(), name == "payment" }

func details(t *testing.T, text string) []Element {
	t.Helper()
	d, err := ReadDetails(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

func pay(rest string) string {
	return `{"type":"payment","payee":"A","amount":{"currency":"EUR","value":"10.00"}` + rest + `}`
}

func TestNarrower(t *testing.T) {
	for name, c := range map[string]struct {
		asked, granted string
		want           bool
	}{
		"the same":                       {`[` + pay("") + `]`, `[` + pay("") + `]`, true},
		"less":                           {`[{"type":"payment","payee":"A","amount":{"currency":"EUR","value":"9.99"}}]`, `[` + pay("") + `]`, true},
		"the same, as written otherwise": {`[{"type":"payment","payee":"A","amount":{"currency":"EUR","value":"10.0"}}]`, `[` + pay("") + `]`, true},
		"more":                           {`[{"type":"payment","payee":"A","amount":{"currency":"EUR","value":"10.01"}}]`, `[` + pay("") + `]`, false},
		"far more, as text":              {`[{"type":"payment","payee":"A","amount":{"currency":"EUR","value":"9e9"}}]`, `[` + pay("") + `]`, false},
		"another currency":               {`[{"type":"payment","payee":"A","amount":{"currency":"USD","value":"1.00"}}]`, `[` + pay("") + `]`, false},
		"another payee":                  {`[{"type":"payment","payee":"B","amount":{"currency":"EUR","value":"1.00"}}]`, `[` + pay("") + `]`, false},
		"twice":                          {`[` + pay("") + `,` + pay("") + `]`, `[` + pay("") + `]`, false},
		"one of two":                     {`[` + pay("") + `]`, `[` + pay(`,"actions":["status"]`) + `,` + pay("") + `]`, true},
		"fewer actions":                  {`[` + pay(`,"actions":["status"]`) + `]`, `[` + pay(`,"actions":["initiate","status"]`) + `]`, true},
		"more actions":                   {`[` + pay(`,"actions":["status","cancel"]`) + `]`, `[` + pay(`,"actions":["initiate","status"]`) + `]`, false},
		"actions left out":               {`[` + pay("") + `]`, `[` + pay(`,"actions":["status"]`) + `]`, false},
		"actions put in":                 {`[` + pay(`,"actions":["status"]`) + `]`, `[` + pay("") + `]`, false},
		"below the path":                 {`[` + pay(`,"path":"/a/b/c"`) + `]`, `[` + pay(`,"path":"/a/b"`) + `]`, true},
		"beside the path":                {`[` + pay(`,"path":"/a/bc"`) + `]`, `[` + pay(`,"path":"/a/b"`) + `]`, false},
		"out of the path":                {`[` + pay(`,"path":"/a/b/../c"`) + `]`, `[` + pay(`,"path":"/a/b"`) + `]`, false},
		"out of it, escaped":             {`[` + pay(`,"path":"/a/b/%2e%2e/c"`) + `]`, `[` + pay(`,"path":"/a/b"`) + `]`, false},
		"later":                          {`[` + pay(`,"since":2`) + `]`, `[` + pay(`,"since":1`) + `]`, true},
		"earlier":                        {`[` + pay(`,"since":1`) + `]`, `[` + pay(`,"since":2`) + `]`, false},
		"another type":                   {`[{"type":"other","payee":"A"}]`, `[` + pay("") + `]`, false},
		"unknown type, equal":            {`[{"type":"other","payee":"A"}]`, `[{"payee":"A","type":"other"}]`, true},
		"two, one for each":              {`[` + pay(`,"since":3`) + `,` + pay(`,"since":1`) + `]`, `[` + pay(`,"since":1`) + `,` + pay(`,"since":2`) + `]`, true},
		"two, only one is wide":          {`[` + pay(`,"since":1`) + `,` + pay(`,"since":1`) + `]`, `[` + pay(`,"since":1`) + `,` + pay(`,"since":2`) + `]`, false},
	} {
		if got := Narrower(details(t, c.asked), details(t, c.granted), known); got != c.want {
			t.Errorf("%s: %v", name, got)
		}
	}
}

// anElement draws an element; values are few, so that some are comparable.
func anElement(t *rapid.T) string {
	s := fmt.Sprintf(`{"type":"payment","payee":"%s","amount":{"currency":"EUR","value":"%d.%d0"}`, rapid.SampledFrom([]string{"A", "B"}).Draw(t, "payee"), rapid.IntRange(0, 3).Draw(t, "value"), rapid.IntRange(0, 1).Draw(t, "cents"))
	if rapid.Bool().Draw(t, "some") {
		var list []string
		for _, a := range []string{"initiate", "status", "cancel"} {
			if rapid.Bool().Draw(t, a) {
				list = append(list, `"`+a+`"`)
			}
		}
		s += `,"actions":[` + strings.Join(list, ",") + `]`
	}
	if rapid.Bool().Draw(t, "at") {
		s += `,"path":"` + rapid.SampledFrom([]string{"/", "/a", "/a/", "/a/b", "/ab", "/a/../b"}).Draw(t, "path") + `"`
	}
	if rapid.Bool().Draw(t, "from") {
		s += fmt.Sprintf(`,"since":%d`, rapid.IntRange(-1, 1).Draw(t, "since"))
	}
	return s + "}"
}

func someDetails(t *rapid.T, name string) []Element {
	text := `[` + strings.Join(rapid.SliceOfN(rapid.Custom(anElement), 1, 3).Draw(t, name), ",") + `]`
	d, err := ReadDetails(text)
	if err != nil {
		t.Fatalf("%s: %v", text, err)
	}
	return d
}

// allows is what an element lets somebody do, said without the comparator: a payment
// of an amount, with an action, at a path, from a time on.
func allows(e Element, payee string, cents int, action, path string, at int) bool {
	if e.tree["payee"] != payee {
		return false
	}
	var whole, part int
	_, _ = fmt.Sscanf(e.tree["amount"].(map[string]any)["value"].(string), "%d.%d", &whole, &part)
	if cents > 100*whole+part {
		return false
	}
	if list, ok := e.tree["actions"].([]any); ok == (action == "") || ok && !strings.Contains(fmt.Sprint(list), action) {
		return false
	}
	if p, ok := e.tree["path"].(string); ok == (path == "") || ok && path != p && !strings.HasPrefix(path, strings.TrimSuffix(p, "/")+"/") {
		return false
	}
	n, ok := e.tree["since"].(json.Number)
	if !ok {
		return at == -9
	}
	v, _ := n.Int64()
	return at != -9 && at >= int(v)
}

// Narrower is reflexive and transitive, and nothing narrower allows what the wider
// does not.
func TestNarrowerIsAnOrder(t *testing.T) {
	rapid.Check(t, func(t *rapid.T) {
		a, b, c := someDetails(t, "a"), someDetails(t, "b"), someDetails(t, "c")
		if !Narrower(a, a, known) {
			t.Fatalf("not reflexive: %s", a)
		}
		if Narrower(a, b, known) && Narrower(b, c, known) && !Narrower(a, c, known) {
			t.Fatalf("not transitive: %s, %s, %s", a, b, c)
		}
		if !Narrower(a, b, known) {
			return
		}
		count := func(d []Element, payee string, cents int, action, path string, at int) (n int) {
			for _, e := range d {
				if allows(e, payee, cents, action, path, at) {
					n++
				}
			}
			return n
		}
		payee := rapid.SampledFrom([]string{"A", "B"}).Draw(t, "who")
		cents := rapid.IntRange(0, 320).Draw(t, "cents")
		action := rapid.SampledFrom([]string{"", "initiate", "status", "cancel"}).Draw(t, "action")
		path := rapid.SampledFrom([]string{"", "/", "/a", "/a/b", "/a/b/c", "/ab", "/x"}).Draw(t, "where")
		at := rapid.SampledFrom([]int{-9, -1, 0, 1}).Draw(t, "when")
		if count(a, payee, cents, action, path, at) > count(b, payee, cents, action, path, at) {
			t.Fatalf("%s is narrower than %s and allows more of %s %d %s %s %d", a, b, payee, cents, action, path, at)
		}
	})
}

func TestReadDetails(t *testing.T) {
	for name, text := range map[string]string{
		"empty": ``, "no list": `{"type":"a"}`, "null": `null`, "an empty list": `[]`, "no type": `[{"x":1}]`, "type is no text": `[{"type":1}]`, "a text": `["payment"]`,
		"a member twice": `[{"type":"a","type":"b"}]`, "nearly twice": `[{"type":"a","Type":"b"}]`, "a number that is not exact": `[{"type":"a","n":9007199254740993}]`,
		"more after it": `[{"type":"a"}],"x":[]`, "a second value": `[{"type":"a"}]} {"d":[]`, "too many": `[` + strings.Repeat(`{"type":"a"},`, MaxDetails) + `{"type":"a"}]`,
		"too long": `[{"type":"a","x":"` + strings.Repeat("y", MaxDetailsBytes) + `"}]`, "too deep": `[{"type":"a","x":` + strings.Repeat("[", 20) + strings.Repeat("]", 20) + `}]`,
	} {
		if d, err := ReadDetails(text); problem.CodeOf(err) != "invalid_authorization_details" || d != nil {
			t.Errorf("%s: %s %v", name, d, err)
		}
	}
}

func TestDetailsFit(t *testing.T) {
	for text, want := range map[string]bool{
		`[` + pay("") + `]`:                                                      true,
		`[` + pay(`,"actions":["status"]`) + `]`:                                 true,
		`[` + pay(`,"actions":["everything"]`) + `]`:                             false,
		`[` + pay(`,"unknown":1`) + `]`:                                          false,
		`[{"type":"payment"}]`:                                                   false,
		`[{"type":"payment","payee":1,"amount":{"currency":"EUR","value":"1"}}]`: false,
	} {
		if err := payment().Fits(details(t, text)[0]); (err == nil) != want || err != nil && problem.CodeOf(err) != "invalid_authorization_details" {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func TestCheckDetails(t *testing.T) {
	for name, c := range map[string]struct {
		edit func(*DetailsType)
		ok   bool
	}{
		"good":             {func(*DetailsType) {}, true},
		"no name":          {func(d *DetailsType) { d.Name = "" }, false},
		"a space":          {func(d *DetailsType) { d.Name = "a b" }, false},
		"no schema":        {func(d *DetailsType) { d.Schema = nil }, false},
		"broken schema":    {func(d *DetailsType) { d.Schema = json.RawMessage(`{"type":"nothing"}`) }, false},
		"schema elsewhere": {func(d *DetailsType) { d.Schema = json.RawMessage(`{"$ref":"https://evil.example/x"}`) }, false},
		"schema in a file": {func(d *DetailsType) { d.Schema = json.RawMessage(`{"$ref":"file:///etc/passwd"}`) }, false},
		"no template":      {func(d *DetailsType) { d.Template = "" }, false},
		"an open brace":    {func(d *DetailsType) { d.Template = "Pay {amount" }, false},
		"bidi in template": {func(d *DetailsType) { d.Template = "Pay \u202e{payee}" }, false},
		"unknown compare":  {func(d *DetailsType) { d.Narrower["payee"] = "like" }, false},
		"type is compared": {func(d *DetailsType) { d.Narrower["type"] = Prefix }, false},
	} {
		d := payment()
		c.edit(&d)
		if err := checkDetails([]DetailsType{d}); (err == nil) != c.ok || err != nil && problem.CodeOf(err) != "details_type_invalid" {
			t.Errorf("%s: %v", name, err)
		}
	}
	if err := checkDetails([]DetailsType{payment(), payment()}); err == nil {
		t.Error("a type is there twice")
	}
}

// What an app supplies stays apart from the words around it.
func TestSay(t *testing.T) {
	e := details(t, "[{\"type\":\"payment\",\"payee\":\"</p> {amount.value} \u202egnorw\",\"amount\":{\"currency\":\"EUR\",\"value\":\"1\"}}]")[0]
	parts := payment().Say(e)
	if len(parts) != 6 || parts[0] != (Part{"Pay ", false}) || parts[5] != (Part{"</p> {amount.value} \u202egnorw", true}) {
		t.Errorf("%+v", parts)
	}
	d := payment()
	d.Template = "{nothing.at.all}{actions}"
	if got := d.Say(e); got[0].Text != "(nothing)" || got[1].Text != "(nothing)" {
		t.Errorf("%+v", got)
	}
	if got := fmt.Sprint(e.Fields()); !strings.Contains(got, "{amount.currency EUR} {amount.value 1} {payee") {
		t.Error(got)
	}
}

func FuzzDetails(f *testing.F) {
	f.Add(`[`+pay(`,"actions":["status"],"path":"/a","since":1`)+`]`, `[`+pay("")+`]`)
	f.Add(`[{"type":"a"}]`, `[{"type":"a","x":{"y":[1,null,true,"z"]}}]`)
	f.Add(`[{"type":"payment","amount":{"value":"1e5"}}]`, `[{"type":"payment","amount":{"value":"-0.0"}}]`)
	f.Fuzz(func(t *testing.T, x, y string) {
		a, err := ReadDetails(x)
		if err != nil {
			if a != nil {
				t.Fatal("an error comes with a value")
			}
			return
		}
		if !Narrower(a, a, known) {
			t.Fatalf("%s is wider than itself", x)
		}
		for _, e := range a {
			payment().Say(e)
			e.Fields()
			_ = payment().Fits(e)
		}
		b, err := ReadDetails(y)
		if err == nil && Narrower(a, b, known) && len(a) > len(b) {
			t.Fatalf("more elements than were granted: %s %s", x, y)
		}
	})
}
