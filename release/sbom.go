package main

import (
	"bytes"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"runtime/debug"
	"slices"
	"strings"

	"github.com/google/uuid"
)

// bom is a list of what is in the programs (CycloneDX 1.6, JSON), read off the
// programs themselves: every module that was linked, none that was not.
type bom struct {
	Schema       string       `json:"$schema"`
	Format       string       `json:"bomFormat"`
	SpecVersion  string       `json:"specVersion"`
	SerialNumber string       `json:"serialNumber"`
	Version      int          `json:"version"`
	Metadata     metadata     `json:"metadata"`
	Components   []component  `json:"components"`
	Dependencies []dependency `json:"dependencies"`
}

type metadata struct {
	Timestamp string    `json:"timestamp"`
	Component component `json:"component"`
}

type component struct {
	Type       string     `json:"type"`
	Ref        string     `json:"bom-ref"`
	Name       string     `json:"name"`
	Version    string     `json:"version,omitempty"`
	PURL       string     `json:"purl,omitempty"`
	Hashes     []digest   `json:"hashes,omitempty"`
	Properties []property `json:"properties,omitempty"`
}

type digest struct {
	Alg     string `json:"alg"`
	Content string `json:"content"`
}

type property struct {
	Name  string `json:"name"`
	Value string `json:"value"`
}

type dependency struct {
	Ref string   `json:"ref"`
	On  []string `json:"dependsOn"`
}

// describe lists what is in the programs of a system.
func (s *source) describe(t target, built []string) (*bom, error) {
	b := &bom{
		Schema: "http://cyclonedx.org/schema/bom-1.6.schema.json", Format: "CycloneDX", SpecVersion: "1.6", Version: 1,
		Metadata: metadata{Timestamp: s.at.Format("2006-01-02T15:04:05Z")},
	}
	modules := map[string]component{}
	for _, path := range built {
		info, err := buildinfo.ReadFile(path)
		if err != nil {
			return nil, err
		}
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		if b.Metadata.Component, err = product(info, t); err != nil {
			return nil, err
		}
		sum := sha256.Sum256(text)
		program := component{
			Type: "application", Ref: filepath.Base(path), Name: filepath.Base(path), Version: info.Main.Version,
			Hashes: []digest{{"SHA-256", hex.EncodeToString(sum[:])}},
		}
		on := map[string]bool{}
		for _, m := range append([]*debug.Module{{Path: "stdlib", Version: strings.TrimPrefix(info.GoVersion, "go")}}, info.Deps...) {
			c := linked(m)
			modules[c.Ref], on[c.Ref] = c, true
		}
		b.Components = append(b.Components, program)
		b.Dependencies = append(b.Dependencies, dependency{program.Ref, slices.Sorted(maps.Keys(on))})
	}
	refs := []string{}
	for _, c := range b.Components {
		refs = append(refs, c.Ref)
	}
	b.Dependencies = append([]dependency{{b.Metadata.Component.Ref, refs}}, b.Dependencies...)
	for _, ref := range slices.Sorted(maps.Keys(modules)) {
		b.Components = append(b.Components, modules[ref])
	}
	return b, nil
}

// product is what the programs are, with the settings that they were built by.
func product(info *debug.BuildInfo, t target) (component, error) {
	c := component{Type: "application", Name: info.Main.Path, Version: info.Main.Version}
	if c.Version == "" || c.Version == "(devel)" || strings.HasSuffix(c.Version, "+dirty") {
		return c, fmt.Errorf("the program's version is %q: it was not built from a commit", c.Version)
	}
	c.PURL = purl(c.Name, c.Version)
	c.Ref = c.PURL
	c.Properties = []property{{"countersign:target", t.os + "/" + t.arch}}
	for _, s := range info.Settings {
		if s.Key == "vcs.revision" || s.Key == "-trimpath" || s.Key == "CGO_ENABLED" {
			c.Properties = append(c.Properties, property{"go:build:" + s.Key, s.Value})
		}
	}
	return c, nil
}

// linked is the component of a module.
func linked(m *debug.Module) component {
	if m.Replace != nil {
		m = m.Replace
	}
	c := component{Type: "library", Name: m.Path, Version: m.Version, PURL: purl(m.Path, m.Version)}
	c.Ref = c.PURL
	if m.Sum != "" {
		c.Properties = []property{{"go:sum", m.Sum}}
	}
	return c
}

// purl is a module's package URL: only its version needs escaping.
func purl(path, version string) string { return "pkg:golang/" + path + "@" + url.PathEscape(version) }

// encode gives the list a number of its own, made from what is in it, so that it
// is the same each time.
func (b *bom) encode() ([]byte, error) {
	plain, err := json.Marshal(b)
	if err != nil {
		return nil, err
	}
	b.SerialNumber = uuid.NewHash(sha256.New(), uuid.NameSpaceURL, plain, 8).URN()
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	err = e.Encode(b)
	return out.Bytes(), err
}
