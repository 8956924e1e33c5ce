package policy

import (
	"testing"

	"github.com/google/go-cmp/cmp"
)

// TestWarnings: whoever publishes a rule that waits for approvals is told by its id what
// becomes of it, and of no other rule.
func TestWarnings(t *testing.T) {
	set := made(t, `
@id("plain") @reason("r") permit (principal, action == Action::"x", resource) when { context.assurance.rung >= 2 };
@id("only") @reason("r") permit (principal, action == Action::"x", resource) when { context.approvals.confirmed };
@id("also") @reason("r") @approvers("release") permit (principal, action == Action::"x", resource) when { context.assurance.rung >= 4 || context.approvals.count >= 2 };
@id("bars") @reason("r") forbid (principal, action == Action::"y", resource) unless { context.approvals.confirmed };
@id("never") @reason("r") @climb("never") forbid (principal, action == Action::"y", resource) when { !context.approvals.confirmed };
@id("watched") @reason("r") @mode("monitor") permit (principal, action == Action::"y", resource) when { context.approvals.confirmed };`)
	got := map[string]string{}
	for _, w := range set.Warnings() {
		if w.Code != WarnApprovals || w.Line == 0 {
			t.Errorf("%+v", w)
		}
		got[w.Policy] = w.Text
	}
	const says = "it reads context.approvals, and this release has no way to confirm or approve an act: "
	want := map[string]string{
		"only": says + "nobody satisfies it, and it permits nothing", "also": says + "it is satisfied in its other ways only",
		"bars": says + "nobody satisfies it, and what it speaks of is refused", "never": says + "they are never there",
		"watched": says + "nobody satisfies it, and it permits nothing",
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
	if w := Builtin().Warnings(); len(w) != 0 {
		t.Errorf("the default set: %v", w)
	}
	if w := (&Set{}).Warnings(); w != nil {
		t.Errorf("no set: %v", w)
	}
}
