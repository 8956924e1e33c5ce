package act_test

import (
	"errors"
	"reflect"
	"testing"

	"github.com/countersign-dev/countersign/internal/account"
	"github.com/countersign-dev/countersign/internal/assurance"
	"github.com/countersign-dev/countersign/internal/lineage"
	"github.com/countersign-dev/countersign/internal/policy"
	"github.com/countersign-dev/countersign/internal/problem"
)

// TestSight: the questions of a request are answered as they would be one by one, none
// leaves anything for the next, and what changes meanwhile is for the next request.
func TestSight(t *testing.T) {
	r := newRig(t)
	admin, member := r.person("admin", r.admins.ID), r.person("member")
	in := r.byPerson(admin, newGroup("g"), r.proof(admin.ID))
	s := r.do.Sight()
	asked := []struct {
		who    account.Person
		proofs []assurance.Proof
		want   policy.Outcome
	}{
		{admin, []assurance.Proof{r.proof(admin.ID)}, policy.Allow},
		{admin, nil, policy.StepUp},
		{member, []assurance.Proof{r.proof(member.ID)}, policy.Deny},
		{admin, []assurance.Proof{r.proof(admin.ID)}, policy.Allow},
	}
	for range 2 {
		for i, c := range asked {
			in.Refs.Actor, in.Proofs = c.who.ID, c.proofs
			got, f, err := s.Judge(t.Context(), in)
			r.ok(err)
			alone, g, err := r.do.Judge(t.Context(), in)
			r.ok(err)
			if got.Outcome != c.want || !reflect.DeepEqual(got, alone) || !reflect.DeepEqual(f, g) {
				t.Errorf("question %d: %+v and %+v\n%+v and %+v", i, got, alone, f, g)
			}
		}
	}
	in.Refs.Actor, in.Proofs = admin.ID, []assurance.Proof{r.proof(admin.ID)}
	r.seed(lineage.Freeze{ID: admin.ID, Why: "disabled"})
	if got, _, err := s.Judge(t.Context(), in); err != nil || got.Outcome != policy.Allow {
		t.Errorf("within the request: %+v, %v", got, err)
	}
	if got, _, err := r.do.Sight().Judge(t.Context(), in); err != nil || got.Code != policy.CodeEnded {
		t.Errorf("in the next: %+v, %v", got, err)
	}
	in.Refs.Actor = "usr_none"
	if _, _, err := s.Judge(t.Context(), in); !errors.Is(err, problem.NotFound) {
		t.Errorf("nobody: %v", err)
	}
}
