package pdp

import (
	"reflect"
	"testing"

	"github.com/countersign-dev/countersign/internal/attribute"
	"github.com/countersign-dev/countersign/internal/problem"
)

var types = attribute.Types{"environment": attribute.String, "size": attribute.Long, "frozen": attribute.Bool, "labels": attribute.Set}

// FuzzAsk: a request is read as a question, or refused with a problem and none.
func FuzzAsk(f *testing.F) {
	f.Add([]byte(`{"subject":{"type":"user","id":"a"},"action":{"name":"read"},"resource":{"type":"todo","id":"1","properties":{"owner":"b"}},"context":{"access_token":"x.y.z"}}`))
	f.Add([]byte(`{"subject":{"type":"user","id":"a"},"options":{"evaluations_semantic":"deny_on_first_deny"},"evaluations":[{"action":{"name":"read"}}]}`))
	f.Add([]byte(`{"subject":{"type":"user","id":"a"},"action":{"name":"deploy"},"resource":{"type":"Cluster","id":"1","properties":{"environment":"production","size":1e3,"frozen":false,"labels":["a","b"],"x":{"y":[null]}}}}`))
	f.Add([]byte(`[]`))
	f.Add([]byte(`{"subject":null,"action":{"name":5}}`))
	f.Fuzz(func(t *testing.T, body []byte) {
		o, err := parse(body)
		if (o == nil) != (err != nil) || err != nil && problem.CodeOf(err) != "invalid_request" {
			t.Fatalf("%q: %v, %v", body, o, err)
		}
		if err != nil {
			return
		}
		for _, search := range []bool{false, true} {
			q, err := ask(o.part, search)
			if err != nil && (!reflect.DeepEqual(q, question{}) || problem.CodeOf(err) != "invalid_request") {
				t.Fatalf("%q: %+v, %v", body, q, err)
			}
			if v, err := types.Take(q.said); (err == nil) != (types.Lacks(v) == "") {
				t.Fatalf("%q: %v, %v", body, v, err)
			}
			if err == nil && (q.subject == "" || q.kind == "" || q.id == "" || q.action == "" && !search) {
				t.Fatalf("%q: %+v", body, q)
			}
		}
		if s, err := semanticOf(o); (s == "") != (err != nil) {
			t.Fatalf("%q: %q, %v", body, s, err)
		}
	})
}
