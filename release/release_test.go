package main

import (
	"archive/tar"
	"bytes"
	"compress/gzip"
	"context"
	"crypto/sha256"
	"debug/buildinfo"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path"
	"path/filepath"
	"regexp"
	"runtime"
	"slices"
	"strings"
	"testing"
	"time"

	"golang.org/x/mod/modfile"
	"golang.org/x/mod/module"
)

// TestTwoBuilds makes the release of this system from the commit that is checked
// out, twice, in two folders, and looks at what came of it: it runs, knows its
// version, says nothing of this machine, and its list of parts is whole. The
// builds share a cache here; `make release` gives each its own.
func TestTwoBuilds(t *testing.T) {
	if _, err := git(t.Context(), ".", "rev-parse", "--verify", "HEAD:docs/upgrade.md"); err != nil {
		t.Skip("this is no checkout of the repository: a release is made from a commit")
	}
	here := target{runtime.GOOS, runtime.GOARCH}
	r := &release{commit: "HEAD", targets: []target{here}, sharedCache: true, say: t.Logf}
	out := filepath.Join(t.TempDir(), "dist")
	if err := r.make(t.Context(), out); err != nil {
		t.Fatal(err)
	}
	names, err := filepath.Glob(filepath.Join(out, "*.tar.gz"))
	if err != nil || len(names) != 1 {
		t.Fatalf("archives: %v, %v", names, err)
	}
	files := unpack(t, names[0])
	base := strings.TrimSuffix(filepath.Base(names[0]), ".tar.gz")
	for _, want := range []string{"countersign", "countersignd", "LICENSE", "README.md", "SECURITY.md", "upgrade.md", "countersignd.service", "Containerfile"} {
		if files[base+"/"+want] == nil {
			t.Errorf("the archive has no %s", want)
		}
	}
	root, err := git(t.Context(), ".", "rev-parse", "--show-toplevel")
	if err != nil {
		t.Fatal(err)
	}
	for _, name := range programs {
		bin := files[base+"/"+name]
		for _, secret := range []string{root, os.TempDir() + "/release-", os.Getenv("HOME") + "/go"} {
			if bytes.Contains(bin, []byte(secret)) {
				t.Errorf("%s says where it was built: %s", name, secret)
			}
		}
		runs(t, name, bin, strings.TrimPrefix(base, "countersign_"))
	}
	checkBOM(t, filepath.Join(out, base+".cdx.json"), files[base+"/countersignd"])
	checkSums(t, out)
}

// runs starts the program and holds its version against the archive's name.
func runs(t *testing.T, name string, bin []byte, named string) {
	t.Helper()
	at := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(at, bin, 0o700); err != nil {
		t.Fatal(err)
	}
	said, err := exec.Command(at, "version").CombinedOutput()
	version := strings.TrimPrefix(strings.TrimSpace(strings.TrimPrefix(string(said), name)), "v")
	if err != nil || version == "" || !strings.HasPrefix(named, version+"_") {
		t.Errorf("%s says %q (%v) in an archive named %s", name, said, err, named)
	}
}

func unpack(t *testing.T, name string) map[string][]byte {
	t.Helper()
	f, err := os.Open(name)
	if err != nil {
		t.Fatal(err)
	}
	defer f.Close()
	z, err := gzip.NewReader(f)
	if err != nil {
		t.Fatal(err)
	}
	files := map[string][]byte{}
	for r := tar.NewReader(z); ; {
		h, err := r.Next()
		if errors.Is(err, io.EOF) {
			return files
		}
		if err != nil {
			t.Fatal(err)
		}
		if h.Uid != 0 || h.Gid != 0 || h.Uname != "" || h.ModTime.After(time.Now()) {
			t.Errorf("%s is of %d %q and of %s", h.Name, h.Uid, h.Uname, h.ModTime)
		}
		if files[h.Name], err = io.ReadAll(r); err != nil {
			t.Fatal(err)
		}
	}
}

// checkBOM holds a list of parts against the program and against the rules of
// CycloneDX 1.6 that a reader relies on.
func checkBOM(t *testing.T, name string, program []byte) {
	t.Helper()
	text, err := os.ReadFile(name)
	if err != nil {
		t.Fatal(err)
	}
	var b bom
	d := json.NewDecoder(bytes.NewReader(text))
	d.DisallowUnknownFields()
	if err := d.Decode(&b); err != nil {
		t.Fatal(err)
	}
	if b.Format != "CycloneDX" || b.SpecVersion != "1.6" || b.Version != 1 || !regexp.MustCompile(`^urn:uuid:[0-9a-f]{8}(-[0-9a-f]{4}){3}-[0-9a-f]{12}$`).MatchString(b.SerialNumber) {
		t.Errorf("%s %s %d %s", b.Format, b.SpecVersion, b.Version, b.SerialNumber)
	}
	if at, err := time.Parse(time.RFC3339, b.Metadata.Timestamp); err != nil || at.IsZero() {
		t.Errorf("its time: %v, %v", at, err)
	}
	refs := map[string]component{b.Metadata.Component.Ref: b.Metadata.Component}
	for _, c := range b.Components {
		if _, twice := refs[c.Ref]; twice || c.Ref == "" || c.Name == "" || c.Version == "" {
			t.Errorf("a part without name, version or reference of its own: %+v", c)
		}
		if c.Type == "library" && !strings.HasPrefix(c.PURL, "pkg:golang/"+c.Name+"@v") && c.Name != "stdlib" {
			t.Errorf("%s has the package URL %s", c.Name, c.PURL)
		}
		refs[c.Ref] = c
	}
	for _, d := range b.Dependencies {
		for _, ref := range append(d.On, d.Ref) {
			if _, ok := refs[ref]; !ok {
				t.Errorf("%s depends on %s, which is not listed", d.Ref, ref)
			}
		}
	}
	sum := fmt.Sprintf("%x", sha256.Sum256(program))
	if c := refs["countersignd"]; len(c.Hashes) != 1 || c.Hashes[0].Content != sum {
		t.Errorf("countersignd has the hash %v", c.Hashes)
	}
	info, err := buildinfo.Read(bytes.NewReader(program))
	if err != nil {
		t.Fatal(err)
	}
	for _, m := range info.Deps {
		if c, ok := refs[purl(m.Path, m.Version)]; !ok || c.Version != m.Version || module.CheckPath(c.Name) != nil {
			t.Errorf("%s %s was linked and is not listed", m.Path, m.Version)
		}
	}
	if len(info.Deps) < 10 {
		t.Errorf("only %d modules were linked", len(info.Deps))
	}
}

// checkSums reads the checksums as sha256sum -c would.
func checkSums(t *testing.T, dir string) {
	t.Helper()
	text, err := os.ReadFile(filepath.Join(dir, sumsFile))
	if err != nil {
		t.Fatal(err)
	}
	entries, err := os.ReadDir(dir)
	if err != nil {
		t.Fatal(err)
	}
	lines := strings.Split(strings.TrimSuffix(string(text), "\n"), "\n")
	if len(lines) != len(entries)-1 {
		t.Errorf("%d checksums of %d files", len(lines), len(entries)-1)
	}
	for _, line := range lines {
		want, name, _ := strings.Cut(line, "  ")
		b, err := os.ReadFile(filepath.Join(dir, name))
		if got := fmt.Sprintf("%x", sha256.Sum256(b)); err != nil || got != want {
			t.Errorf("%s: %s, want %s, %v", name, got, want, err)
		}
	}
}

// Two folders that differ in a bit, or in a file, are no release.
func TestSame(t *testing.T) {
	write := func(files map[string]string) string {
		dir := t.TempDir()
		for name, text := range files {
			if err := os.MkdirAll(filepath.Join(dir, path.Dir(name)), 0o700); err != nil {
				t.Fatal(err)
			}
			if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		return dir
	}
	a := write(map[string]string{"x": "1", "d/y": "2"})
	for _, c := range []struct {
		files map[string]string
		want  string
	}{
		{map[string]string{"x": "1", "d/y": "2"}, ""},
		{map[string]string{"x": "1", "d/y": "3"}, "d/y differs"},
		{map[string]string{"x": "1"}, "d/y differs"},
		{map[string]string{"x": "1", "d/y": "2", "z": ""}, "only the second build has z"},
	} {
		err := same(a, write(c.files))
		if (err == nil) != (c.want == "") || err != nil && !strings.Contains(err.Error(), c.want) {
			t.Errorf("%v: %v", c.files, err)
		}
	}
	if same(t.TempDir(), t.TempDir()) == nil {
		t.Error("nothing is the same as nothing")
	}
}

func TestParseTargets(t *testing.T) {
	if got, err := parseTargets(allTargets); err != nil || len(got) != 6 || got[0].String() != "linux_amd64" {
		t.Errorf("%v, %v", got, err)
	}
	for _, bad := range []string{"", "linux", "linux/", "/amd64", "linux/amd64,"} {
		if got, err := parseTargets(bad); err == nil {
			t.Errorf("%q: %v", bad, got)
		}
	}
}

// What changes a build does not come from whoever builds.
func TestEnvironment(t *testing.T) {
	t.Setenv("GOFLAGS", "-tags=backdoor")
	t.Setenv("GOAMD64", "v4")
	t.Setenv("GIT_DIR", "/elsewhere")
	env := environment("/cache")
	for _, v := range env {
		if strings.Contains(v, "backdoor") || v == "GOAMD64=v4" || strings.HasPrefix(v, "GIT_DIR=") {
			t.Errorf("it reaches the build: %s", v)
		}
	}
	for _, want := range []string{"CGO_ENABLED=0", "GOCACHE=/cache", "GOAMD64=v1"} {
		if !slices.Contains(env, want) {
			t.Errorf("without %s", want)
		}
	}
}

// deployed reads a file of deploy/ without its comments.
func deployed(t *testing.T, name string) (lines []string) {
	t.Helper()
	b, err := os.ReadFile(filepath.Join("..", "deploy", name))
	if err != nil {
		t.Fatal(err)
	}
	for _, line := range strings.Split(strings.ReplaceAll(string(b), "\\\n", " "), "\n") {
		if line = strings.TrimSpace(line); line != "" && !strings.HasPrefix(line, "#") {
			lines = append(lines, line)
		}
	}
	return lines
}

// The container file cannot be built where no engine runs; what it must be can be
// read off it.
func TestContainerfile(t *testing.T) {
	lines := deployed(t, "Containerfile")
	text := strings.Join(lines, "\n")
	mod, err := os.ReadFile(filepath.Join("..", "go.mod"))
	if err != nil {
		t.Fatal(err)
	}
	f, err := modfile.Parse("go.mod", mod, nil)
	if err != nil {
		t.Fatal(err)
	}
	minor := strings.Join(strings.Split(f.Go.Version, ".")[:2], ".")
	for _, want := range append(slices.Clone(settings), "CGO_ENABLED=0", "golang:"+minor) {
		flag, value, _ := strings.Cut(want, "=")
		if !strings.Contains(text, flag) || !strings.Contains(text, value) {
			t.Errorf("it does not build by %q as a release does", want)
		}
	}
	last := slices.IndexFunc(lines, func(l string) bool { return l == "FROM scratch" })
	if last < 0 {
		t.Fatal("the image is not made from scratch")
	}
	image := lines[last+1:]
	for _, line := range image {
		word, rest, _ := strings.Cut(line, " ")
		if !slices.Contains([]string{"COPY", "USER", "EXPOSE", "VOLUME", "ENTRYPOINT", "CMD", "LABEL", "STOPSIGNAL"}, word) {
			t.Errorf("in the image: %s", line)
		}
		if word == "COPY" && !strings.HasPrefix(rest, "--from=build ") {
			t.Errorf("not from the build: %s", line)
		}
		if (word == "ENTRYPOINT" || word == "CMD") && !json.Valid([]byte(rest)) {
			t.Errorf("by way of a shell, of which there is none: %s", line)
		}
	}
	if !slices.Contains(image, "USER 65532:65532") {
		t.Error("the image runs as root, or as a name that it does not know")
	}
	if strings.Contains(text, ":latest") || regexp.MustCompile(`(?m)^ADD `).MatchString(text) {
		t.Error("it takes in what nobody named")
	}
}

// The unit is what systemd itself calls well protected, where systemd is here to
// ask.
func TestUnit(t *testing.T) {
	lines := deployed(t, "countersignd.service")
	for _, want := range []string{
		"NoNewPrivileges=yes", "ProtectSystem=strict", "ProtectHome=yes", "PrivateTmp=yes", "PrivateDevices=yes", "CapabilityBoundingSet=",
		"SystemCallFilter=@system-service", "MemoryDenyWriteExecute=yes", "RestrictSUIDSGID=yes", "UMask=0077",
	} {
		if !slices.Contains(lines, want) {
			t.Errorf("the unit has no %s", want)
		}
	}
	systemd, err := exec.LookPath("systemd-analyze")
	if err != nil {
		t.Log("no systemd-analyze here: its judgement is not asked for")
		return
	}
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Second)
	defer cancel()
	said, err := exec.CommandContext(ctx, systemd, "security", "--offline=true", "--threshold=20", "--no-pager", filepath.Join("..", "deploy", "countersignd.service")).CombinedOutput()
	if strings.Contains(string(said), "unrecognized option") || strings.Contains(string(said), "Unknown") {
		t.Logf("this systemd-analyze is too old to ask: %s", said)
		return
	}
	if err != nil {
		t.Errorf("the unit's exposure is over 2.0 of 10: %v\n%s", err, said)
	}
}
