package server

import (
	"net/netip"
	"strings"
	"testing"
)

const (
	goodOne = `{"uuid":"1b4e28ba-2fa1-11d2-883f-0016d3cca427","node":"a","address":"10.0.0.1"}`
	goodTwo = `{"uuid":"2b4e28ba-2fa1-11d2-883f-0016d3cca427","node":"b","address":"fd00::2","env":"prod"}`
)

func TestInventory(t *testing.T) {
	good, err := ParseInventory([]byte(`{"machines":[`+goodOne+","+goodTwo+"]}"), "f")
	if err != nil || good.Len() != 2 {
		t.Fatalf("%v (%v)", good, err)
	}
	if machine, found := good.Find(netip.MustParseAddr("fd00:0::2%eth0")); !found || machine.Node != "b" || machine.Environment != "prod" {
		t.Errorf("%+v %t", machine, found)
	}
	if none, err := ParseInventory([]byte("machines: []"), "f"); err != nil || none.Len() != 0 {
		t.Errorf("%v (%v)", none, err)
	}

	list := func(items ...string) string { return "machines:\n- " + strings.Join(items, "\n- ") }
	change := func(old, new string) string { return list(goodTwo, strings.Replace(goodOne, old, new, 1)) }
	tests := []struct{ name, text, want string }{
		{"empty", "", "f:1: the inventory is empty"},
		{"not YAML", "machines: [", "f:1: this is not YAML"},
		{"list", "- a", "the one key `machines`"},
		{"two keys", "machines: []\nother: 1", "the one key `machines`"},
		{"two documents", "machines: []\n---\nmachines: []", "f:2: a second document"},
		{"no list", "machines: none", "machines is not a list"},
		{"no machine", list("none"), "f:2: a machine is not a list of keys"},
		{"unknown key", change(`"node"`, `"name"`), `f:3: unknown key "name"`},
		{"missing key", change(`"node":"a",`, ""), "f:3: node is missing"},
		{"twice the key", change(`"node":"a"`, `"node":"a","node":"c"`), "f:3: node is given twice"},
		{"upper-case uuid", change("1b4e28ba", "1B4E28BA"), "f:3: uuid"},
		{"short uuid", change("1b4e28ba", "1b4e28b"), "f:3: uuid"},
		{"upper-case node", change(`"a"`, `"A"`), "f:3: node"},
		{"dotted node", change(`"a"`, `"a.b"`), "f:3: node"},
		{"node with a line", change(`"a"`, `"a\nb"`), "f:3: node"},
		{"empty node", change(`"a"`, `""`), "f:3: node"},
		{"null node", change(`"a"`, `null`), "f:3: node"},
		{"node is a list", change(`"a"`, `["a"]`), "f:3: node"},
		{"no address", change("10.0.0.1", "web-1"), "f:3: address"},
		{"network", change("10.0.0.1", "10.0.0.0/8"), "f:3: address"},
		{"nowhere", change("10.0.0.1", "0.0.0.0"), "f:3: address"},
		{"same uuid", change("1b4e28ba", "2b4e28ba"), "f:3: uuid 2b4e28ba-2fa1-11d2-883f-0016d3cca427 belongs to the machine on line 2"},
		{"same node", change(`"a"`, `"b"`), "f:3: node b belongs to the machine on line 2"},
		{"same address", change("10.0.0.1", "fd00:0:0::2"), "f:3: address fd00::2 belongs to the machine on line 2"},
		{"odd claim", change(`"node":"a"`, `"node":"a","role":"a b"`), "f:3: role"},
	}
	for _, test := range tests {
		t.Run(test.name, func(t *testing.T) {
			inventory, err := ParseInventory([]byte(test.text), "f")
			if err == nil || inventory != nil || !strings.Contains(err.Error(), test.want) || !strings.Contains(err.Error(), "; fix: ") {
				t.Errorf("got %v\nwant %q", err, test.want)
			}
		})
	}
	_, err = ParseInventory([]byte(list(strings.ToUpper(goodOne), strings.Replace(goodTwo, `"b"`, `"B"`, 1))), "f")
	if strings.Count(err.Error(), "\n") < 3 {
		t.Errorf("not all problems are reported:\n%v", err)
	}
}

func FuzzInventory(f *testing.F) {
	f.Add([]byte(inventoryText))
	f.Add([]byte(`{"machines":[` + goodOne + "]}"))
	f.Fuzz(func(t *testing.T, text []byte) {
		inventory, err := ParseInventory(text, "f")
		if (err == nil) != (inventory != nil) {
			t.Errorf("%v and %v", inventory, err)
		}
		if err == nil {
			for address, machine := range inventory.machines {
				if !labelPattern.MatchString(machine.Node) || !uuidPattern.MatchString(machine.UUID) || machine.Address != address || !address.IsValid() {
					t.Errorf("accepted %+v", machine)
				}
			}
		}
	})
}
