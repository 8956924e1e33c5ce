package main

import (
	"reflect"
	"slices"
	"strings"
	"testing"
)

// What the file does not say of a client stays as it is: whatever can be said of one is
// carried by an update that changes something else.
func TestAnUpdateCarriesEverything(t *testing.T) {
	said := reflect.TypeFor[wantClient]()
	for i := range said.NumField() {
		name, _, _ := strings.Cut(said.Field(i).Tag.Get("json"), ",")
		switch name {
		case "native", "service": // follows from the addresses; stays with the client
			continue
		}
		if !slices.Contains(writable["client"], name) {
			t.Errorf("an update of a client loses its %s", name)
		}
	}
}
