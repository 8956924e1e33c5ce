package policy

import "testing"

func TestIdentifies(t *testing.T) {
	for name, c := range map[string]struct {
		text string
		want bool
	}{
		"nothing of it":         {`permit (principal, action == Action::"client.write", resource);`, false},
		"its kind":              {`permit (principal, action == Action::"client.write", resource is Thing) when { resource.kind == "client" };`, false},
		"what it is":            {`permit (principal, action == Action::"client.write", resource) when { resource is Thing };`, false},
		"one's own":             {`permit (principal, action == Action::"client.write", resource) when { resource.owner == principal };`, false},
		"somebody else's":       {`permit (principal, action == Action::"client.write", resource) when { principal != resource.owner };`, false},
		"which":                 {`permit (principal, action == Action::"client.write", resource == Thing::"cli_1");`, true},
		"which, as a literal":   {`permit (principal, action == Action::"client.write", resource) unless { resource == Thing::"cli_1" };`, true},
		"whose":                 {`permit (principal, action == Action::"client.write", resource) when { resource.owner == Person::"usr_1" };`, true},
		"whose, by a set":       {`permit (principal, action == Action::"client.write", resource) when { [Person::"usr_1"].contains(resource.owner) };`, true},
		"which, another action": {`permit (principal, action == Action::"client.read", resource == Thing::"cli_1");`, false},
	} {
		t.Run(name, func(t *testing.T) {
			s, err := Compile(Source{Files: []File{{Name: "a.cedar", Text: `@id("a") @reason("r") ` + c.text}}})
			if err != nil {
				t.Fatal(err)
			}
			if got := s.Identifies(ClientWrite, KindPerson); got != c.want {
				t.Errorf("%v", got)
			}
			if s.Identifies(ClientWrite, KindDevice) {
				t.Error("nobody may")
			}
		})
	}
	if new(Set).Identifies(ClientWrite, KindPerson) {
		t.Error("no set identifies anything")
	}
}
