package layout

import (
	"errors"
	"fmt"
	"io/fs"
	"math/rand/v2"
	"strings"
	"testing"

	"github.com/cedar-policy/cedar-go"

	"github.com/countersign-dev/countersign/policies"
)

func format(t testing.TB, text string) string {
	t.Helper()
	out, err := Format("test.cedar", text)
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	if again, err := Format("test.cedar", out); err != nil || again != out {
		t.Fatalf("laid out twice it changes: %v\nfirst:\n%s\nthen:\n%s", err, out, again)
	}
	return out
}

func TestLayout(t *testing.T) {
	for _, c := range []struct{ name, in, want string }{
		{"nothing", "", ""},
		{"a comment alone", "\n\n  // nothing yet  \n\n\n// still\n", "// nothing yet\n\n// still\n"},
		{
			"annotations have an order", `@owner("team")@approvers("release") @mode("monitor") @id("a") @x @reason("Because.") permit(principal,action,resource,);`,
			`@id("a")
@reason("Because.")
@owner("team")
@mode("monitor")
@approvers("release")
@x
permit (
  principal,
  action,
  resource
);
`,
		},
		{
			"comments go with what they stand beside", `
// Of the file.

// Of the policy.
@reason("Because.") // why
// who
@id("a")
// before the effect
permit(principal // anybody
, action,
// whatever
resource)
/* when */ when { // now
context.assurance.rung>=2&& // strong
// and more
!context.risk.known || principal in Group::"a" } // done
; // end
// next
// the last
`,
			`// Of the file.

// Of the policy.
// who
@id("a")
@reason("Because.") // why
// before the effect
permit (
  principal, // anybody
  action,
  // whatever
  resource
)
/* when */
when { // now
  context.assurance.rung >= 2 && // strong
    // and more
    !context.risk.known ||
  principal in Group::"a"
}; // done

// end
// next
// the last
`,
		},
		{
			"lists break where they are too long", `permit(principal is Person in Group::"administrators",action in [Action::"person.invite",Action::"person.import",Action::"person.disable",Action::"a",],resource)
when{["short","list",].contains(resource.kind)};`,
			`permit (
  principal is Person in Group::"administrators",
  action in [
    Action::"person.invite",
    Action::"person.import",
    Action::"person.disable",
    Action::"a"
  ],
  resource
)
when { ["short", "list"].contains(resource.kind) };
`,
		},
		{
			"every form of expression", `forbid(principal==Person::"a",action==Action::"x",resource is Thing in Group::"g") unless{
if context has a.b.c then-1- -2*(3+4)<=5 else {"a b":[],c:{}}["a b"].contains(principal.x) && context.name like "a*" && ip("10.0.0.1").isLoopback() && context.time.now.offset(duration("1h"))<datetime("2026-01-01")};`,
			`forbid (
  principal == Person::"a",
  action == Action::"x",
  resource is Thing in Group::"g"
)
unless {
  if context has a.b.c
    then -1 - -2 * (3 + 4) <= 5
    else { "a b": [], c: {} }["a b"].contains(principal.x) &&
      context.name like "a*" &&
      ip("10.0.0.1").isLoopback() &&
      context.time.now.offset(duration("1h")) < datetime("2026-01-01")
};
`,
		},
	} {
		t.Run(c.name, func(t *testing.T) {
			if got := format(t, c.in); got != c.want {
				t.Errorf("got:\n%s\nwant:\n%s", got, c.want)
			}
		})
	}
}

func TestTheDefaultSetIsLaidOut(t *testing.T) {
	names, err := fs.Glob(policies.Files, "*/*.cedar")
	if err != nil || len(names) == 0 {
		t.Fatal(names, err)
	}
	for _, name := range append(names, "host.cedar") {
		text, err := fs.ReadFile(policies.Files, name)
		if err != nil {
			t.Fatal(err)
		}
		if format(t, string(text)) != string(text) {
			t.Errorf("policies/%s is not laid out: countersign policy fmt policies/%s", name, name)
		}
	}
}

func TestRefused(t *testing.T) {
	for name, text := range map[string]string{
		"not Cedar":        `permit (principal, action)`,
		"an open string":   `permit (principal, action, resource) when { "`,
		"an open comment":  `permit (principal, action, resource); /* `,
		"brackets too far": `permit (principal, action, resource) when { ` + strings.Repeat("(", 1000) + "true" + strings.Repeat(")", 1000) + ` };`,
		"a has of a has":   `permit (principal, action, resource) when { ` + strings.Repeat("(", 60) + "context" + strings.Repeat(" has a.b)", 60) + ` };`,
		"signs too far":    `permit (principal, action, resource) when { ` + strings.Repeat("!", 1000) + `true };`,
	} {
		if out, err := Format("a.cedar", text); err == nil || out != "" || !strings.HasPrefix(err.Error(), "a.cedar: ") {
			t.Errorf("%s: %q, %v", name, out, err)
		}
	}
}

// words gives random policies: the words of Cedar in an order that it takes, with
// what may stand between them.
type words struct {
	*rand.Rand
	b        strings.Builder
	comments []string
}

func (w *words) put(all ...string) {
	for _, s := range all {
		switch w.IntN(12) {
		case 0:
			w.comments = append(w.comments, fmt.Sprintf("// %d", len(w.comments)))
			w.b.WriteString(" " + w.comments[len(w.comments)-1] + "\n")
		case 1:
			w.comments = append(w.comments, fmt.Sprintf("/* %d\n  \t*/", len(w.comments)))
			w.b.WriteString(w.comments[len(w.comments)-1])
		case 2:
			w.b.WriteString("\n\n")
		case 3:
			w.b.WriteString(" \t\r\n")
		default:
			w.b.WriteString(" ")
		}
		w.b.WriteString(s)
	}
}

func (w *words) of(all ...string) { w.put(all[w.IntN(len(all))]) }

func (w *words) policy() {
	for _, i := range w.Perm(4)[:w.IntN(5)] {
		w.put("@", []string{"id", "mode", "x", "reason"}[i])
		if w.IntN(4) > 0 {
			w.put("(", `"a\"b // no comment"`, ")")
		}
	}
	w.of("permit", "forbid")
	w.put("(", "principal")
	switch w.IntN(4) {
	case 0:
		w.put("is", "Person", "in", "Group", "::", `"a"`)
	case 1:
		w.put("==", "A", "::", "Person", "::", `"a"`)
	}
	w.put(",", "action")
	if w.IntN(2) == 0 {
		w.put("in", "[")
		w.list(func() { w.put("Action", "::", `"a long name of an action"`) })
		w.put("]")
	}
	w.put(",", "resource")
	if w.IntN(3) == 0 {
		w.put(",")
	}
	w.put(")")
	for range w.IntN(3) {
		w.of("when", "unless")
		w.put("{")
		w.expression(3)
		w.put("}")
	}
	w.put(";")
}

func (w *words) list(item func()) {
	n := w.IntN(5)
	for i := range n {
		item()
		if i < n-1 || w.IntN(3) == 0 {
			w.put(",")
		}
	}
}

func (w *words) expression(depth int) {
	sub := func() { w.expression(depth - 1) }
	in := func() { w.put("("); sub(); w.put(")") }
	if depth == 0 {
		w.of("true", "12", `"text"`, "principal", "context", "resource")
		return
	}
	switch w.IntN(12) {
	case 0:
		w.put("if")
		sub()
		w.put("then")
		sub()
		w.put("else")
		sub()
	case 1:
		in()
		for range w.IntN(4) {
			w.of("&&", "||")
			in()
		}
	case 2:
		in()
		w.of("<", "<=", "==", "!=", "in", "+", "-", "*")
		in()
	case 3:
		w.of("!", "-", "! !", "- -", "-1 -", "-")
		in()
	case 4:
		in()
		w.put("has", "a", ".", "b")
	case 5:
		in()
		w.put("like", `"a*\*"`)
	case 6:
		in()
		w.put("is", "A", "::", "B", "in")
		in()
	case 7:
		w.put("[")
		w.list(sub)
		w.put("]")
	case 8:
		i := 0
		w.put("{")
		w.list(func() { i++; w.put(fmt.Sprintf(`"k%d"`, i), ":"); sub() })
		w.put("}", "[", `"k1"`, "]")
	case 9:
		w.put("context", ".", "a", ".", "contains", "(")
		sub()
		w.put(")")
	case 10:
		w.put("duration", "(", `"5m"`, ")")
	default:
		in()
	}
}

// Whatever stands between the words, what is said stays, every comment stays, and
// what was laid out is not laid out again.
func TestLayoutChangesNothing(t *testing.T) {
	for seed := range uint64(3000) {
		w := words{Rand: rand.New(rand.NewPCG(seed, 7))}
		for range 1 + w.IntN(3) {
			w.policy()
		}
		w.put("")
		in := w.b.String()
		out := format(t, in)
		if a, b := said(t, in), said(t, out); a != b {
			t.Fatalf("seed %d: said\n%s\nnow\n%s\nof\n%s\nnow\n%s", seed, a, b, in, out)
		}
		for _, c := range w.comments {
			if strings.Count(out, c) != strings.Count(in, c) {
				t.Fatalf("seed %d: the comment %q is not kept\n%s\nnow\n%s", seed, c, in, out)
			}
		}
		for _, l := range strings.Split(out, "\n") {
			if strings.TrimRight(l, " \t") != l && !strings.Contains(l, "/*") {
				t.Fatalf("seed %d: %q ends with a space\n%s", seed, l, out)
			}
		}
	}
}

// said is what a text says, in Cedar's own other form.
func said(t testing.TB, text string) string {
	t.Helper()
	list, err := cedar.NewPolicyListFromBytes("", []byte(text))
	if err != nil {
		t.Fatalf("%v\n%s", err, text)
	}
	var b strings.Builder
	for _, p := range list {
		j, err := p.MarshalJSON()
		if err != nil {
			t.Fatal(err)
		}
		b.Write(append(j, '\n'))
	}
	return b.String()
}

func FuzzFormat(f *testing.F) {
	for seed := range uint64(20) {
		w := words{Rand: rand.New(rand.NewPCG(seed, 9))}
		w.policy()
		f.Add(w.b.String())
	}
	f.Add("@id permit(principal,action,resource)when{if 1then 2else-3};//")
	f.Fuzz(func(t *testing.T, text string) {
		out, err := Format("a.cedar", text)
		if err != nil {
			if out != "" {
				t.Fatal("an error with a text")
			}
			if errors.Is(err, errChanged) {
				t.Fatal(err)
			}
			return
		}
		if again, err := Format("a.cedar", out); err != nil || again != out {
			t.Fatalf("laid out twice it changes: %v\n%q\n%q", err, out, again)
		}
		if said(t, text) != said(t, out) {
			t.Fatalf("%q\n%q", text, out)
		}
	})
}
