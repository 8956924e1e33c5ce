package policy

import (
	"strings"
	"testing"
)

// What comes, goes and changes is told by id; a policy that is laid out in another way,
// or stands in another file, is the same, and one of which a word of the reason differs is
// not.
func TestChanges(t *testing.T) {
	set := func(files ...string) *Set {
		t.Helper()
		var src Source
		for i, text := range files {
			src.Files = append(src.Files, File{Name: string(rune('a'+i)) + ".cedar", Text: text})
		}
		s, err := Compile(src)
		if err != nil {
			t.Fatal(err)
		}
		return s
	}
	rule := func(id, reason, action string) string {
		return `@id("` + id + `") @reason("` + reason + `") permit (principal is Person, action == Action::"` + action + `", resource);`
	}
	was := set(rule("goes", "Goes.", "audit.read")+rule("same", "Same.", "person.read"), rule("words", "Before.", "person.read")+rule("acts", "Acts.", "person.read"))
	is := set(rule("words", "After.", "person.read")+rule("acts", "Acts.", "audit.read"), strings.ReplaceAll(rule("same", "Same.", "person.read"), "permit (", "\npermit (\n  ")+rule("comes", "Comes.", "audit.read"))
	var got []string
	for _, c := range Changes(was, is) {
		text := c.ID()
		if c.Was != nil {
			text += " -" + c.Was.Reason
		}
		if c.Is != nil {
			text += " +" + c.Is.Reason
		}
		got = append(got, text)
	}
	if want := "acts -Acts. +Acts.|comes +Comes.|goes -Goes.|words -Before. +After."; strings.Join(got, "|") != want {
		t.Errorf("%q, want %s", got, want)
	}
	if c := Changes(is, is); len(c) != 0 {
		t.Errorf("a set differs from itself: %v", c)
	}
	if c := Changes(Builtin(), was); len(c) < 10 {
		t.Errorf("only %d policies differ from the default set", len(c))
	}
}
