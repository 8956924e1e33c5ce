package policy

import (
	"errors"
	"iter"
	"slices"
	"strconv"

	"github.com/cedar-policy/cedar-go"
	publicast "github.com/cedar-policy/cedar-go/ast"
	"github.com/cedar-policy/cedar-go/x/exp/ast"
)

// form is what a bucket asks of Cedar for a policy; nil is nothing.
type form struct {
	policy *cedar.Policy
	text   string
}

// form makes a policy of conditions, less what its buckets make sure of: the action, the
// kind of the principal, and the group, whose members alone are asked about.
func (p *compiled) form(effect ast.Effect, conditions []ast.ConditionType) *form {
	out := &ast.Policy{Effect: effect, Principal: p.tree.Principal, Action: ast.Scope{}.All(), Resource: p.tree.Resource, Conditions: conditions}
	if _, is := out.Principal.(ast.ScopeTypeIs); is || p.member != "" {
		out.Principal = ast.Scope{}.All()
	}
	f := &form{policy: cedar.NewPolicyFromAST((*publicast.Policy)(out))}
	f.text = string(f.policy.MarshalCedar())
	return f
}

// questions are what some policies ask. What several ask alike is asked once.
type questions struct {
	policies []*compiled
	put      []question
}

type question struct {
	*form
	id cedar.PolicyID // its place among the questions
	of []int          // the policies that ask it, ascending
}

// add adds a form of one more policy.
func (q *questions) add(p *compiled, f *form) {
	q.policies = append(q.policies, p)
	i := slices.IndexFunc(q.put, func(have question) bool { return have.text == f.text })
	if i < 0 {
		i = len(q.put)
		q.put = append(q.put, question{form: f, id: cedar.PolicyID(strconv.Itoa(i))})
	}
	q.put[i].of = append(q.put[i].of, len(q.policies)-1)
}

// inquiry is questions about somebody, a cedar.PolicyIterator.
type inquiry struct {
	*questions
	who *Entity // nil: whatever groups they are in
}

// of is whether a policy asks its question about them.
func (a inquiry) of(policy int) bool {
	member := a.policies[policy].member
	return member == "" || a.who == nil || a.who.In(member)
}

// All implements cedar.PolicyIterator.
func (a inquiry) All() iter.Seq2[cedar.PolicyID, *cedar.Policy] {
	return func(yield func(cedar.PolicyID, *cedar.Policy) bool) {
		for i := range a.put {
			q := &a.put[i]
			if slices.ContainsFunc(q.of, a.of) && !yield(q.id, q.policy) {
				return
			}
		}
	}
}

// asked are the policies that ask a question about them, in their order.
func (a inquiry) asked(id cedar.PolicyID, visit func(policy int)) {
	i, _ := strconv.Atoi(string(id)) // add made it
	for _, at := range a.put[i].of {
		if a.of(at) {
			visit(at)
		}
	}
}

// answer is what Cedar said.
type answer struct {
	allow bool
	yes   []*compiled // the policies that are satisfied, in their order; where any forbids, those that do
	bad   *compiled   // the first that could not be evaluated; nil: all could
	err   error       // why not
}

// answer asks Cedar.
func (w *world) answer(a inquiry) (out answer) {
	decision, diag := cedar.Authorize(a, w, w.request)
	out.allow = decision == cedar.Allow
	first := len(a.policies)
	for _, e := range diag.Errors {
		a.asked(e.PolicyID, func(at int) {
			if at < first {
				first, out.bad, out.err = at, a.policies[at], errors.New(e.Message)
			}
		})
	}
	yes := make([]int, 0, 64)
	for _, r := range diag.Reasons {
		a.asked(r.PolicyID, func(at int) { yes = append(yes, at) })
	}
	slices.Sort(yes)
	out.yes = make([]*compiled, len(yes))
	for i, at := range yes {
		out.yes[i] = a.policies[at]
	}
	return out
}
