package config

import (
	"errors"
	"reflect"
	"strings"

	"github.com/goccy/go-yaml"
	"github.com/goccy/go-yaml/ast"
	"github.com/goccy/go-yaml/parser"
)

// decode reads the file into c and gives every key that is unknown or holds
// something else than it should. Text that is no YAML at all is one fault: what
// follows the first one could mean anything.
func decode(b []byte, c *Config) []error {
	err := yaml.UnmarshalWithOptions(b, c, yaml.Strict(), yaml.DisallowUnknownField())
	if err == nil {
		return nil
	}
	// The decoder stops at its first fault: look at each key by itself.
	if file, perr := parser.ParseBytes(b, 0); perr == nil && len(file.Docs) == 1 {
		*c = Config{}
		if faults := fill(file.Docs[0].Body, reflect.ValueOf(c).Elem(), ""); len(faults) > 0 {
			return faults
		}
	}
	return []error{errors.New(strings.TrimRight(yaml.FormatError(err, false, true), "\n"))}
}

// fill reads a node into a member of the configuration; key is its name with
// those above it.
func fill(n ast.Node, v reflect.Value, key string) (faults []error) {
	if v.Kind() != reflect.Struct {
		if err := yaml.NodeToValue(n, v.Addr().Interface(), yaml.Strict()); err != nil {
			v.SetZero()
			return []error{fault{key, kindWords[v.Kind()]}}
		}
		return nil
	}
	m, ok := n.(ast.MapNode)
	if !ok {
		if _, empty := n.(*ast.NullNode); empty {
			return nil
		}
		return []error{fault{key, "is a group of keys, each in a line of its own below it"}}
	}
	for it := m.MapRange(); it.Next(); {
		name := it.Key().String()
		full := strings.TrimPrefix(key+"."+name, ".")
		f, ok := member(v, name)
		if !ok {
			faults = append(faults, fault{full, "there is no such key"})
			continue
		}
		faults = append(faults, fill(it.Value(), f, full)...)
	}
	return faults
}

var kindWords = map[reflect.Kind]string{
	reflect.String: "is text", reflect.Bool: "is true or false", reflect.Int: "is a whole number", reflect.Slice: "is a list of texts",
}

// member is the member of a struct with this name in the file.
func member(v reflect.Value, name string) (reflect.Value, bool) {
	for i := range v.NumField() {
		if tag, _, _ := strings.Cut(v.Type().Field(i).Tag.Get("yaml"), ","); tag == name {
			return v.Field(i), true
		}
	}
	return reflect.Value{}, false
}

// within reports whether a fault is about a key, or one above or below it, that
// is at fault already: then it says nothing new.
func within(known []error, err error) bool {
	var f, k fault
	if !errors.As(err, &f) {
		return false
	}
	for _, e := range known {
		if errors.As(e, &k) && (f.key == k.key || strings.HasPrefix(f.key, k.key+".") || strings.HasPrefix(k.key, f.key+".")) {
			return true
		}
	}
	return false
}
