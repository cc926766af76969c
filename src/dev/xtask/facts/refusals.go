package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"fmt"
	"math"
	"math/rand"
	"reflect"
	"sort"
	"strings"

	"k8s.io/apimachinery/pkg/api/resource"
	kjson "sigs.k8s.io/json"
)

// Every kind is broken this many times in each way.
const breaksPerKind = 6

// refusals returns broken objects with what Go's strict decoder says of them, and quantities with their canonical
// form: gzip over records of kind (or "quantity"), input, error, strict errors (or the canonical text), and what Go writes
// of an object that it could read.
func refusals() []byte {
	var records bytes.Buffer
	random := rand.New(rand.NewSource(1))
	for _, k := range kinds() {
		value := reflect.New(k.goType)
		if _, ok := value.Interface().(message); !ok || strings.HasSuffix(k.name, "List") {
			continue
		}
		fill := &filler{odds: 2, random: 3}
		fill.fill(value.Elem(), 0)
		text, err := json.Marshal(value.Interface())
		if err != nil {
			fatal("%s: %v", k.name, err)
		}
		for range breaksPerKind {
			for _, broken := range []string{
				mutate(random, text, replaceByOther), mutate(random, text, addUnknown), mutate(random, text, repeatKey),
			} {
				writeRefusal(&records, k, broken)
			}
		}
	}
	for _, text := range quantities() {
		canonical, problem := "", ""
		if parsed, err := resource.ParseQuantity(text); err != nil {
			problem = err.Error()
		} else if parsed.CmpInt64(math.MaxInt64) >= 0 {
			// We cap what is beyond an int64, upstream only with binary suffixes.
			continue
		} else {
			canonical = parsed.String()
		}
		writeRecord(&records, "quantity", text, problem, canonical, "")
	}
	var compressed bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	_, _ = writer.Write(records.Bytes())
	_ = writer.Close()
	return compressed.Bytes()
}

func writeRefusal(records *bytes.Buffer, k kind, text string) {
	into := reflect.New(k.goType)
	strict, err := kjson.UnmarshalStrict([]byte(text), into.Interface())
	problem := ""
	if err != nil {
		problem = err.Error()
		strict = nil
	}
	lines := []string{}
	for _, one := range strict {
		lines = append(lines, one.Error())
	}
	again := ""
	if err == nil {
		again = jsonText(into.Interface())
	}
	writeRecord(records, k.group+"/"+k.version+"/"+k.name, text, problem, strings.Join(lines, "\n"), again)
}

func writeRecord(records *bytes.Buffer, parts ...string) {
	for _, part := range parts {
		records.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(part))))
		records.WriteString(part)
	}
}

// node is a JSON value whose objects may repeat keys.
type node struct {
	members []member
	items   []*node
	scalar  string
	sort    byte
}

type member struct {
	key   string
	value *node
}

func parse(value any) *node {
	switch value := value.(type) {
	case map[string]any:
		keys := []string{}
		for key := range value {
			keys = append(keys, key)
		}
		sort.Strings(keys)
		out := &node{sort: '{'}
		for _, key := range keys {
			out.members = append(out.members, member{key, parse(value[key])})
		}
		return out
	case []any:
		out := &node{sort: '['}
		for _, item := range value {
			out.items = append(out.items, parse(item))
		}
		return out
	}
	return &node{scalar: jsonText(value)}
}

func (n *node) write(out *strings.Builder) {
	switch n.sort {
	case '{':
		out.WriteByte('{')
		for i, one := range n.members {
			if i > 0 {
				out.WriteByte(',')
			}
			out.WriteString(jsonText(one.key) + ":")
			one.value.write(out)
		}
		out.WriteByte('}')
	case '[':
		out.WriteByte('[')
		for i, item := range n.items {
			if i > 0 {
				out.WriteByte(',')
			}
			item.write(out)
		}
		out.WriteByte(']')
	default:
		out.WriteString(n.scalar)
	}
}

func (n *node) all(found []*node) []*node {
	found = append(found, n)
	for _, one := range n.members {
		found = one.value.all(found)
	}
	for _, item := range n.items {
		found = item.all(found)
	}
	return found
}

func mutate(random *rand.Rand, text []byte, change func(*rand.Rand, []*node)) string {
	decoder := json.NewDecoder(bytes.NewReader(text))
	decoder.UseNumber()
	var tree any
	if err := decoder.Decode(&tree); err != nil {
		fatal("%v", err)
	}
	root := parse(tree)
	change(random, root.all(nil))
	var out strings.Builder
	root.write(&out)
	return out.String()
}

func replaceByOther(random *rand.Rand, nodes []*node) {
	others := []string{`"text"`, `5`, `1.5`, `true`, `null`, `99999999999999999999`, `{}`, `[]`, `{"a":1}`, `["a"]`, `-3`}
	victim := nodes[random.Intn(len(nodes))]
	*victim = node{scalar: others[random.Intn(len(others))]}
}

func objects(nodes []*node) []*node {
	found := []*node{}
	for _, one := range nodes {
		if one.sort == '{' {
			found = append(found, one)
		}
	}
	return found
}

func addUnknown(random *rand.Rand, nodes []*node) {
	for range 2 {
		all := objects(nodes)
		victim := all[random.Intn(len(all))]
		victim.members = append(victim.members, member{fmt.Sprintf("unknown%d", random.Intn(3)), &node{scalar: "1"}})
	}
}

func repeatKey(random *rand.Rand, nodes []*node) {
	for range 2 {
		all := objects(nodes)
		victim := all[random.Intn(len(all))]
		if len(victim.members) > 0 {
			again := victim.members[random.Intn(len(victim.members))]
			victim.members = append(victim.members, again)
		}
	}
}

func quantities() []string {
	texts := []string{"", "x", "1x", "1 ", "--1", "+1", "1e", "1E", "1e1.5", ".5", "5.", "1..2", "1ki", "1KI", "1m", "1mi"}
	for _, number := range []string{
		"0", "00", "-0", "1", "-1", "+7", "10", "100", "1000", "1024", "1500", "2048", "1000000", "999999999999",
		"0.1", "0.5", "0.0001", "1.25", "-2.75", "123456789.123456789", "0.0000000001", "12.30", "1.000", "1048576",
		"9223372036854775807", "9223372036854775808", "0.25", "5.5",
	} {
		for _, suffix := range []string{
			"", "n", "u", "m", "k", "M", "G", "T", "P", "E", "Ki", "Mi", "Gi", "Ti", "Pi", "Ei", "e3", "E3", "e-3", "e0", "e4",
		} {
			texts = append(texts, number+suffix)
		}
	}
	return texts
}
