package main

import "testing"

// Every word of a schema counts: also one that elsewhere means the same as nothing.
func TestSchemasAreComparedWhole(t *testing.T) {
	m, err := parseManifest([]byte(`
resources:
- uri: https://pay.example.com
  authorization_details_types:
  - name: payment
    template: Pay {amount}
    narrower: {amount: at_most}
    schema: {type: object, additionalProperties: false, properties: {amount: {minimum: 0}}}
`))
	if err != nil {
		t.Fatal(err)
	}
	want := fields(m.Resources[0])
	have := fields(m.Resources[0])
	if d := differences(want, have); len(d) != 0 {
		t.Errorf("the same: %v", d)
	}
	schema := have["authorization_details_types"].([]any)[0].(map[string]any)["schema"].(map[string]any)
	delete(schema, "additionalProperties")
	if d := differences(want, have); len(d) != 1 || d[0].Field != "authorization_details_types" {
		t.Errorf("looser: %v", d)
	}
}
