package main

import (
	"bytes"
	"compress/gzip"
	"encoding/binary"
	"encoding/json"
	"reflect"
	"strconv"
	"strings"
	"time"

	apiextensionsv1 "k8s.io/apiextensions-apiserver/pkg/apis/apiextensions/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer/protobuf"
	"k8s.io/apimachinery/pkg/util/intstr"
)

type message interface {
	Marshal() ([]byte, error)
	Unmarshal([]byte) error
}

// pairs returns every kind that protobuf can carry, filled in three ways, as Go writes it in JSON and in protobuf:
// gzip over records of group/version/kind, JSON and protobuf, each with four bytes of length before it.
func pairs() []byte {
	var records bytes.Buffer
	for _, k := range kinds() {
		if _, ok := reflect.New(k.goType).Interface().(message); !ok {
			continue
		}
		for _, fill := range fillings(k.name) {
			writePair(&records, k, fill)
		}
	}
	var compressed bytes.Buffer
	writer, _ := gzip.NewWriterLevel(&compressed, gzip.BestCompression)
	if _, err := writer.Write(records.Bytes()); err != nil {
		fatal("%v", err)
	}
	if err := writer.Close(); err != nil {
		fatal("%v", err)
	}
	return compressed.Bytes()
}

func fillings(kind string) []*filler {
	if strings.HasSuffix(kind, "List") {
		return []*filler{{odds: 0}, {odds: 3, random: 7}}
	}
	return []*filler{{odds: 0}, {odds: 2, random: 1}, {odds: 3, random: 5}, {odds: 1}}
}

func writePair(records *bytes.Buffer, k kind, fill *filler) {
	value := reflect.New(k.goType)
	fill.fill(value.Elem(), 0)
	// What protobuf cannot tell apart (nil and empty) is not to differ in the JSON.
	encoded, err := value.Interface().(message).Marshal()
	if err != nil {
		fatal("%s: %v", k.name, err)
	}
	decoded := reflect.New(k.goType)
	if err := decoded.Interface().(message).Unmarshal(encoded); err != nil {
		fatal("%s: %v", k.name, err)
	}
	gvk := schema.GroupVersionKind{Group: k.group, Version: k.version, Kind: k.name}
	object, isObject := decoded.Interface().(runtime.Object)
	if isObject {
		object.GetObjectKind().SetGroupVersionKind(gvk)
		var envelope bytes.Buffer
		if err := protobuf.NewSerializer(nil, nil).Encode(object, &envelope); err != nil {
			fatal("%s: %v", k.name, err)
		}
		encoded = envelope.Bytes()
	}
	text, err := json.Marshal(decoded.Interface())
	if err != nil {
		fatal("%s: %v", k.name, err)
	}
	for _, part := range [][]byte{[]byte(k.group + "/" + k.version + "/" + k.name), text, encoded} {
		records.Write(binary.LittleEndian.AppendUint32(nil, uint32(len(part))))
		records.Write(part)
	}
}

// filler fills a Go value; one in `odds` of its optional parts is set, 0 stands for none.
type filler struct {
	odds   int
	random uint32
	count  int
	thin   bool
	// What stands behind a pointer is not zero: JSON has one null for both.
	must bool
}

// filled counts how often a struct type was filled; beyond a few times it is filled thinly, to keep the data small.
var filled = map[reflect.Type]int{}

const fillTimesMax = 3

// How deep filling goes; types that contain themselves end here.
const fillDepthMax = 14

func (f *filler) skip() bool {
	if f.must {
		f.must = false
		return false
	}
	if f.odds == 0 {
		return true
	}
	f.random = f.random*1664525 + 1013904223
	odds := f.odds
	if f.thin {
		odds = 8
	}
	return int(f.random>>16)%odds != 0
}

func (f *filler) next() int {
	f.count++
	return f.count
}

func (f *filler) fill(value reflect.Value, depth int) {
	if f.special(value) {
		return
	}
	switch value.Kind() {
	case reflect.Struct:
		if f.odds == 1 {
			filled[value.Type()]++
			thin := f.thin
			f.thin = thin || filled[value.Type()] > fillTimesMax
			defer func() { f.thin = thin }()
		}
		for i := range value.NumField() {
			field := value.Type().Field(i)
			// Kind and version come from the envelope; what has no field number is not sent.
			if field.IsExported() && field.Tag.Get("protobuf") != "" && field.Tag.Get("protobuf") != "-" {
				f.fill(value.Field(i), depth+1)
			}
		}
	case reflect.Pointer:
		if depth < fillDepthMax && !f.skip() {
			value.Set(reflect.New(value.Type().Elem()))
			f.must = hasOwnEncoding(value.Type().Elem())
			f.fill(value.Elem(), depth)
			f.must = false
		}
	case reflect.Slice:
		if depth < fillDepthMax && !f.skip() {
			f.fillSlice(value, depth)
		}
	case reflect.Map:
		if depth < fillDepthMax && !f.skip() {
			value.Set(reflect.MakeMap(value.Type()))
			for range 2 {
				element := reflect.New(value.Type().Elem()).Elem()
				f.fill(element, depth+1)
				key := reflect.ValueOf("k" + strconv.Itoa(f.next())).Convert(value.Type().Key())
				value.SetMapIndex(key, element)
			}
		}
	default:
		if !f.skip() {
			f.fillScalar(value)
		}
	}
}

func (f *filler) fillSlice(value reflect.Value, depth int) {
	if value.Type().Elem().Kind() == reflect.Uint8 {
		value.SetBytes([]byte{0, 1, 0xff, byte(f.next())})
		return
	}
	length := 1
	if depth < 4 {
		length = 2
	}
	value.Set(reflect.MakeSlice(value.Type(), length, length))
	for i := range length {
		f.fill(value.Index(i), depth+1)
	}
}

func (f *filler) fillScalar(value reflect.Value) {
	switch value.Kind() {
	case reflect.String:
		value.SetString([]string{"é", "a\"b", "s"}[f.next()%3] + strconv.Itoa(f.count))
	case reflect.Bool:
		value.SetBool(true)
	case reflect.Int32, reflect.Int64, reflect.Int:
		value.SetInt(int64(f.next()) * []int64{1, -1, 70000}[f.count%3])
	case reflect.Float64:
		value.SetFloat(float64(f.next()) + []float64{0, 0.5}[f.count%2])
	default:
		fatal("cannot fill %v", value.Type())
	}
}

func hasOwnEncoding(t reflect.Type) bool {
	_, own := specials[qualified(t)]
	return own
}

func (f *filler) special(value reflect.Value) bool {
	switch special := value.Addr().Interface().(type) {
	case *resource.Quantity:
		if f.skip() {
			return true
		}
		texts := []string{"1500m", "2Gi", "1e3", "0.1", "12", "1024", "1Mi", "100k", "2560Ki", "1u"}
		*special = resource.MustParse(texts[f.next()%len(texts)])
	case *metav1.Time:
		if !f.skip() {
			*special = metav1.Time{Time: time.Unix(int64(1700000000+f.next()), 0)}
		}
	case *metav1.MicroTime:
		if !f.skip() {
			*special = metav1.MicroTime{Time: time.Unix(int64(1700000000+f.next()), 123456000)}
		}
	case *metav1.Duration:
		if !f.skip() {
			*special = metav1.Duration{Duration: time.Duration(f.next()) * 1500 * time.Millisecond}
		}
	case *intstr.IntOrString:
		if f.next()%2 == 0 {
			*special = intstr.FromString(strconv.Itoa(f.count) + "%")
		} else if !f.skip() {
			*special = intstr.FromInt32(int32(f.count))
		}
	case *runtime.RawExtension:
		if !f.skip() {
			special.Raw = []byte(`{"kind":"A","n":` + strconv.Itoa(f.next()) + `}`)
		}
	case *metav1.FieldsV1:
		special.Raw = []byte(`{"f:spec":{"f:n":{}}}`)
	case *apiextensionsv1.JSON:
		special.Raw = []byte(`{"a":[1,"x",null]}`)
	case *apiextensionsv1.JSONSchemaPropsOrBool:
		special.Allows = true
		if f.next()%2 == 0 {
			special.Schema = &apiextensionsv1.JSONSchemaProps{Type: "string"}
		}
	case *apiextensionsv1.JSONSchemaPropsOrArray:
		special.Schema = &apiextensionsv1.JSONSchemaProps{Type: "object"}
	case *apiextensionsv1.JSONSchemaPropsOrStringArray:
		special.Property = []string{"a", "b"}
	default:
		return false
	}
	return true
}
