package account

import (
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/countersign-dev/countersign/internal/id"
	"github.com/countersign-dev/countersign/internal/once"
	"github.com/countersign-dev/countersign/internal/secret"
)

var noon = time.Date(2026, 11, 23, 12, 0, 0, 0, time.UTC)

func TestNewInvitation(t *testing.T) {
	inv := Invitation{Name: "Sam", Username: "sam@example.com", Groups: []string{"grp_x"}, InvitedBy: "usr_y"}
	put, link := NewInvitation("https://id.example.com", inv, noon)
	before, text, ok := strings.Cut(link, "#")
	if !ok || before != "https://id.example.com/invite" {
		t.Fatalf("the link is %s…", before)
	}
	if _, err := secret.Read(secret.Invite, text); err != nil {
		t.Fatalf("the secret: %v", err)
	}
	if put.Key != once.KeyOf(once.Invite, text) || put.Key == once.KeyOf(once.Setup, text) {
		t.Error("the value is not found by its secret, or is found for another purpose")
	}
	if strings.Contains(string(put.Data), text) {
		t.Error("the secret itself is stored")
	}
	got, err := ReadInvitation(put.Value)
	if err != nil {
		t.Fatal(err)
	}
	inv.ID, inv.ExpiresAt = got.ID, noon.Add(72*time.Hour)
	if d := cmp.Diff(inv, got); d != "" || put.ExpiresAt != inv.ExpiresAt || put.MadeAt != noon {
		t.Errorf("%s\n%+v", d, put.Value)
	}
	if _, err := id.Parse(id.Invitation, got.ID); err != nil {
		t.Errorf("the id: %v", err)
	}
	if p := got.PersonID(); !strings.HasPrefix(p, id.Person) || p[4:] != got.ID[4:] {
		t.Errorf("person %s of invitation %s", p, got.ID)
	}
	if _, again := NewInvitation("https://id.example.com", inv, noon); again == link {
		t.Error("two invitations share a secret")
	}
}

func TestReadInvitationRefuses(t *testing.T) {
	put, _ := NewSetupLink("https://id.example.com", noon)
	if _, err := ReadInvitation(put.Value); err == nil {
		t.Error("a setup link was read as an invitation")
	}
	if _, err := ReadInvitation(once.Value{Purpose: once.Invite, Data: []byte("[")}); err == nil {
		t.Error("malformed data was read")
	}
	for _, bad := range []string{"", "inv_1", id.New(id.Person)} {
		if p := (Invitation{ID: bad}).PersonID(); p != "" {
			t.Errorf("person %q of invitation %q", p, bad)
		}
	}
}

func TestNewSetupLink(t *testing.T) {
	put, link := NewSetupLink("http://localhost:8080", noon)
	before, text, _ := strings.Cut(link, "#")
	if before != "http://localhost:8080/setup" || put.Key != once.KeyOf(once.Setup, text) || put.Bound == "" || put.ExpiresAt != noon.Add(15*time.Minute) {
		t.Errorf("%s: %+v", before, put.Value)
	}
}
