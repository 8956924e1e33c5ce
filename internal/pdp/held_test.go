package pdp

import (
	"testing"

	"github.com/countersign-dev/countersign/internal/policy"
)

// TestUngroup: where groups have too many members to be told, neither what asks for them
// nor their names are held, and the rest is.
func TestUngroup(t *testing.T) {
	const audience = "https://a.example"
	note := `@audience("` + audience + `") @outage("last") action `
	over := ` appliesTo { principal: [Person], resource: [Thing], context: Context };`
	set, err := policy.Compile(policy.Source{
		Schema: note + `"grouped"` + over + note + `"plain"` + over,
		Files: []policy.File{{Text: `@id("g") @reason("r") permit (principal is Person in Group::"many", action == Action::"grouped", resource);
			@id("p") @reason("r") permit (principal is Person, action == Action::"plain", resource);`}},
	})
	if err != nil {
		t.Fatal(err)
	}
	places := set.Places(audience)
	if x := set.Excerpt(places); len(x.Groups) != 1 {
		t.Errorf("%+v", x)
	}
	ungroup(places)
	if g, p := places[0], places[1]; g.Local || g.Held || !p.Local || !p.Held {
		t.Errorf("%+v", places)
	}
	if x := set.Excerpt(places); len(x.Groups) != 0 || x.Policies == "" {
		t.Errorf("%+v", x)
	}
}
