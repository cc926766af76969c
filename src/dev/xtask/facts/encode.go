package main

import "encoding/binary"

// formatVersion changes whenever the layout below does; crate schema refuses another one.
const formatVersion = 1

// strings are kept once each in a pool: two bytes of length, then the text.
type pool struct {
	bytes []byte
	at    map[string]uint32
}

func (p *pool) put(text string) uint32 {
	if at, ok := p.at[text]; ok {
		return at
	}
	at := uint32(len(p.bytes))
	p.at[text] = at
	p.bytes = binary.LittleEndian.AppendUint16(p.bytes, uint16(len(text)))
	p.bytes = append(p.bytes, text...)
	return at
}

// encode lays the facts out as a header of offsets and tables of fixed-size records:
//
//	header  magic "KFCT", version, then (count, offset) of kinds, types, shapes, fields, extras, strings: u32 each
//	kind    group, version, name: u32 string; type: u16, 2 bytes of padding
//	type    name, go name: u32 string; first field: u16, fields: u16; first extra: u16, extras: u16
//	shape   go name: u32 string; argument: u16; kind: u8, padding
//	field   name: u32 string; tag: u16, shape: u16; first extra: u16; extras: u8; flags: u8
//	extra   value: u32 string; key: u8, 3 bytes of padding
func (f *facts) encode() []byte {
	texts := &pool{at: map[string]uint32{}}
	texts.put("")
	le := binary.LittleEndian
	var kinds, types, shapes, fields, extras []byte
	extraCount := 0
	putExtras := func(list []extra) uint16 {
		first := extraCount
		for _, one := range list {
			extras = le.AppendUint32(extras, texts.put(one.value))
			extras = append(extras, one.key, 0, 0, 0)
			extraCount++
		}
		if extraCount > 0xffff {
			fatal("too many extras")
		}
		return uint16(first)
	}
	for i, k := range f.kinds {
		for _, text := range []string{k.group, k.version, k.name} {
			kinds = le.AppendUint32(kinds, texts.put(text))
		}
		kinds = le.AppendUint16(kinds, uint16(f.kindOf[i]))
		kinds = append(kinds, 0, 0)
	}
	for _, t := range f.types {
		types = le.AppendUint32(types, texts.put(t.name))
		types = le.AppendUint32(types, texts.put(t.goName))
		types = le.AppendUint16(types, uint16(t.first))
		types = le.AppendUint16(types, uint16(t.count))
		types = le.AppendUint16(types, putExtras(t.extras))
		types = le.AppendUint16(types, uint16(len(t.extras)))
	}
	for _, s := range f.shapes {
		shapes = le.AppendUint32(shapes, texts.put(s.goName))
		shapes = le.AppendUint16(shapes, s.arg)
		shapes = append(shapes, s.kind, 0)
	}
	for _, one := range f.fields {
		fields = le.AppendUint32(fields, texts.put(one.name))
		fields = le.AppendUint16(fields, one.tag)
		fields = le.AppendUint16(fields, one.shape)
		fields = le.AppendUint16(fields, putExtras(one.extras))
		fields = append(fields, uint8(len(one.extras)), one.flags)
	}
	if len(f.fields) > 0xffff || len(f.shapes) > 0xffff || len(f.types) > 0xffff {
		fatal("a table is too long")
	}
	header := le.AppendUint32([]byte("KFCT"), formatVersion)
	offset := uint32(8 + 6*8)
	body := []byte{}
	for _, table := range []struct {
		count int
		bytes []byte
	}{
		{len(f.kinds), kinds}, {len(f.types), types}, {len(f.shapes), shapes},
		{len(f.fields), fields}, {extraCount, extras}, {len(texts.bytes), texts.bytes},
	} {
		header = le.AppendUint32(header, uint32(table.count))
		header = le.AppendUint32(header, offset+uint32(len(body)))
		body = append(body, table.bytes...)
	}
	return append(header, body...)
}
