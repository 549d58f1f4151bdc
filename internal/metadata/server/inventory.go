package server

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/netip"
	"regexp"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"
)

// Machine is one VM of the inventory. Everything but the address goes into its
// JWT's claims, where any process of that VM can read it: no secrets.
type Machine struct {
	// UUID is the VM's own, lower case: stable for its life and never reused.
	UUID string
	// Node is its name in Consul, a lower-case DNS label.
	Node string
	// Address is the source address by which the VM is known. Whoever can forge it
	// can be that VM: the network must pin addresses to attachments.
	Address netip.Addr
	// Site, Datacenter, Role and Environment are claims of the owner's choice; empty ones are left out.
	Site, Datacenter, Role, Environment string
}

// Inventory is the VMs by address. Read only once parsed, so safe from any goroutine.
type Inventory struct{ machines map[netip.Addr]Machine }

// Len is how many VMs there are.
func (i *Inventory) Len() int { return len(i.machines) }

// Find returns the VM whose address that is. A zone and IPv4-in-IPv6 do not matter.
func (i *Inventory) Find(address netip.Addr) (Machine, bool) {
	machine, found := i.machines[address.Unmap().WithZone("")]
	return machine, found
}

var (
	uuidPattern  = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	labelPattern = regexp.MustCompile(`^[a-z0-9]([a-z0-9-]{0,61}[a-z0-9])?$`)
	claimPattern = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_.-]{0,62}$`)
	yamlLine     = regexp.MustCompile(`line (\d+)`)
	yamlPlace    = regexp.MustCompile(`^yaml: (line \d+: )?`)
)

// column is one key of a machine. unique ones may not be the same in two machines.
type column struct {
	key              string
	required, unique bool
	pattern          *regexp.Regexp // nil for the address, which is parsed
	want             string
	field            func(*Machine) *string
}

const plain = "letters, digits and inner _ . -, at most 63"

var columns = []column{
	{"uuid", true, true, uuidPattern, "the VM's uuid in lower case, such as 1b4e28ba-2fa1-11d2-883f-0016d3cca427", func(m *Machine) *string { return &m.UUID }},
	{"node", true, true, labelPattern, "a DNS label in lower case, such as web-1", func(m *Machine) *string { return &m.Node }},
	{"address", true, true, nil, "the IP address the VM asks from, such as 10.0.0.7", nil},
	{"site", false, false, claimPattern, plain, func(m *Machine) *string { return &m.Site }},
	{"dc", false, false, claimPattern, plain, func(m *Machine) *string { return &m.Datacenter }},
	{"role", false, false, claimPattern, plain, func(m *Machine) *string { return &m.Role }},
	{"env", false, false, claimPattern, plain, func(m *Machine) *string { return &m.Environment }},
}

// ParseInventory reads an inventory, YAML or JSON (which is YAML too):
//
//	machines:
//	  - uuid: 1b4e28ba-2fa1-11d2-883f-0016d3cca427
//	    node: web-1
//	    address: 10.0.0.7
//	    role: web        # site, dc, role, env: optional
//
// It is strict: an unknown or repeated key, a bad value, or an address, uuid or
// node that two machines share is an error with name and line. All are reported.
func ParseInventory(text []byte, name string) (*Inventory, error) {
	parser := inventoryParser{name: name, taken: map[string]int{}, inventory: &Inventory{machines: map[netip.Addr]Machine{}}}
	decoder := yaml.NewDecoder(bytes.NewReader(text))
	var root, another yaml.Node
	if err := decoder.Decode(&root); err != nil {
		return nil, parser.notYAML(err)
	}
	if err := decoder.Decode(&another); !errors.Is(err, io.EOF) {
		if err != nil {
			return nil, parser.notYAML(err)
		}
		return nil, parser.wrong(another.Line, "a second document begins here", "keep one inventory in one file")
	}
	top := root.Content[0]
	if top.Kind != yaml.MappingNode || len(top.Content) != 2 || top.Content[0].Value != "machines" {
		return nil, parser.wrong(top.Line, "want the one key `machines` and nothing else", "write `machines:` and a list below it")
	}
	list := top.Content[1]
	if list.Kind != yaml.SequenceNode {
		return nil, parser.wrong(list.Line, "machines is not a list", "write one `- uuid: ...` a machine, or []")
	}
	for _, item := range list.Content {
		parser.machine(item)
	}
	if len(parser.problems) > 0 {
		return nil, errors.Join(parser.problems...)
	}
	return parser.inventory, nil
}

type inventoryParser struct {
	name      string
	taken     map[string]int // "key value" -> line
	problems  []error
	inventory *Inventory
}

func (p *inventoryParser) wrong(line int, what, fix string) error {
	return fmt.Errorf("%s:%d: %s; fix: %s", p.name, line, what, fix)
}

func (p *inventoryParser) report(line int, what, fix string) {
	p.problems = append(p.problems, p.wrong(line, what, fix))
}

func (p *inventoryParser) notYAML(err error) error {
	if errors.Is(err, io.EOF) {
		return p.wrong(1, "the inventory is empty", "write `machines: []` where there is none yet")
	}
	line := 1
	if found := yamlLine.FindStringSubmatch(err.Error()); found != nil {
		line, _ = strconv.Atoi(found[1])
	}
	return p.wrong(line, "this is not YAML: "+yamlPlace.ReplaceAllString(err.Error(), ""), "correct the indentation or the quotes here or just above")
}

// machine reads one item of the list.
func (p *inventoryParser) machine(node *yaml.Node) {
	if node.Kind != yaml.MappingNode {
		p.report(node.Line, "a machine is not a list of keys", "write `- uuid: ...` with the other keys below it")
		return
	}
	before, machine, seen := len(p.problems), Machine{}, map[string]bool{}
	for i := 0; i+1 < len(node.Content); i += 2 {
		key, value := node.Content[i], node.Content[i+1]
		if seen[key.Value] {
			p.report(key.Line, key.Value+" is given twice", "keep one of them")
			continue
		}
		seen[key.Value] = true
		p.cell(&machine, key, value)
	}
	for _, column := range columns {
		if column.required && !seen[column.key] {
			p.report(node.Line, column.key+" is missing", "add "+column.want)
		}
	}
	if len(p.problems) == before {
		p.inventory.machines[machine.Address] = machine
	}
}

// cell reads one key of a machine.
func (p *inventoryParser) cell(machine *Machine, key, value *yaml.Node) {
	for _, column := range columns {
		if column.key != key.Value || key.Kind != yaml.ScalarNode {
			continue
		}
		text := value.Value
		good := value.Kind == yaml.ScalarNode && value.Anchor == "" && value.Tag != "!!null"
		if good && column.pattern == nil {
			address, err := netip.ParseAddr(text)
			good = err == nil && address.Zone() == "" && !address.IsUnspecified() && !address.IsMulticast()
			machine.Address = address.Unmap()
			text = machine.Address.String() // one spelling, so that a twin is seen
		} else if good {
			good = column.pattern.MatchString(text)
			*column.field(machine) = text
		}
		if !good {
			p.report(value.Line, fmt.Sprintf("%s %s is not good", key.Value, quote(value.Value)), "write "+column.want)
			return
		}
		if first, twin := p.taken[key.Value+" "+text]; twin && column.unique {
			p.report(value.Line, fmt.Sprintf("%s %s belongs to the machine on line %d already", key.Value, text, first), "give each machine its own")
			return
		}
		p.taken[key.Value+" "+text] = value.Line
		return
	}
	var known []string
	for _, column := range columns {
		known = append(known, column.key)
	}
	p.report(key.Line, "unknown key "+quote(key.Value), "write one of "+strings.Join(known, ", "))
}

// quote shows what somebody sent, cut short and with nothing in it that could
// break a log line.
func quote(text string) string {
	const most = 64
	if len(text) > most {
		return strconv.QuoteToASCII(text[:most]) + "..."
	}
	return strconv.QuoteToASCII(text)
}
