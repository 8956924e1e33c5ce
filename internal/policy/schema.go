package policy

import (
	"fmt"
	"io/fs"
	"reflect"
	"slices"
	"sync"

	"github.com/cedar-policy/cedar-go/types"
	"github.com/cedar-policy/cedar-go/x/exp/schema"
	"github.com/cedar-policy/cedar-go/x/exp/schema/resolved"

	"github.com/countersign-dev/countersign/policies"
)

// kinds are the kinds of principal and their entity types.
var kinds = map[string]types.EntityType{
	KindPerson:    "Person",
	KindService:   "Service",
	KindWorkload:  "Workload",
	KindAgent:     "Agent",
	KindDevice:    "Device",
	KindOperator:  "Operator",
	KindSystem:    "System",
	KindAnonymous: "Anonymous",
}

const (
	groupType  types.EntityType = "Group"
	clientType types.EntityType = "Client"
	thingType  types.EntityType = "Thing"
	actionType types.EntityType = "Action"
)

// productSchema is the text of what policies may speak of.
var productSchema = sync.OnceValue(func() string {
	text, _ := fs.ReadFile(policies.Files, "schema.cedarschema") // it is compiled in
	return string(text)
})

// productTypes is productSchema, resolved.
var productTypes = sync.OnceValue(func() *resolved.Schema { return must(resolve(productSchema())) })

func resolve(text string) (*resolved.Schema, error) {
	var s schema.Schema
	if err := s.UnmarshalCedar([]byte(text)); err != nil {
		return nil, err
	}
	return s.Resolve()
}

// SchemaFile is how faults, and directories of policies, name the deployment's own schema.
const SchemaFile = "schema.cedarschema"

// readSchema resolves the product's schema with the deployment's own beside it.
// What the own one declares must be such that every attribute is supplied:
// context is the product's, principals are the product's, and what is said of
// things is what enforcement points can say (mechanisms A3, A4).
func readSchema(own string) (*resolved.Schema, Faults) {
	product := productTypes()
	if own == "" {
		return product, nil
	}
	var faults Faults
	refuse := func(format string, a ...any) {
		faults = append(faults, Fault{File: SchemaFile, Code: FaultSchema, Text: fmt.Sprintf(format, a...)})
	}
	var alone schema.Schema
	if err := alone.UnmarshalCedar([]byte(own)); err != nil {
		return nil, Faults{{File: SchemaFile, Code: FaultSyntax, Text: err.Error()}}
	}
	// After the product's, so that one text cannot continue into the other: each
	// was read by itself before.
	s, err := resolve(productSchema() + "\n" + own)
	if err != nil {
		return nil, Faults{{File: SchemaFile, Code: FaultSchema, Text: err.Error()}}
	}
	for ns := range s.Namespaces {
		refuse("namespace %s: entity types and actions are declared without a namespace", ns)
	}
	for name := range s.Enums {
		refuse("entity %s: the server supplies no enumerated entities", name)
	}
	for name, e := range s.Entities {
		if _, ok := product.Entities[name]; ok {
			continue
		}
		thingOf(&e, refuse)
		if e.Tags != nil {
			refuse("entity %s: the server supplies no tags", name)
		}
	}
	context := product.Actions[actionUID(string(SelfRead))].AppliesTo.Context
	for uid, a := range s.Actions {
		if _, ok := product.Actions[uid]; ok {
			continue
		}
		placed(uid, a, refuse)
		if a.AppliesTo == nil {
			continue
		}
		for _, p := range a.AppliesTo.Principals {
			if !isKind(p) {
				refuse("action %s: no %s can be a principal", uid.ID, p)
			}
		}
		if !reflect.DeepEqual(a.AppliesTo.Context, context) {
			refuse("action %s: its context must be Context, which the server fills", uid.ID)
		}
	}
	slices.SortFunc(faults, func(a, b Fault) int { return compareText(a.Text, b.Text) })
	return s, faults
}

// isKind reports whether an entity type is one of the kinds of principal.
func isKind(t types.EntityType) bool {
	for _, k := range kinds {
		if k == t {
			return true
		}
	}
	return false
}

func actionUID(name string) types.EntityUID {
	return types.NewEntityUID(actionType, types.String(name))
}

// actionsIn are the actions that apply to somebody and are one of uids or in
// one of them, by name, ascending; of none, all.
func actionsIn(s *resolved.Schema, uids ...types.EntityUID) []Action {
	var within func(uid types.EntityUID) bool
	within = func(uid types.EntityUID) bool {
		if len(uids) == 0 || slices.Contains(uids, uid) {
			return true
		}
		for parent := range s.Actions[uid].Entity.Parents.All() {
			if within(parent) {
				return true
			}
		}
		return false
	}
	var out []Action
	for uid, a := range s.Actions {
		if a.AppliesTo != nil && within(uid) {
			out = append(out, Action(uid.ID))
		}
	}
	slices.Sort(out)
	return out
}
