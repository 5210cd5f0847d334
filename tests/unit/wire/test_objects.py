import pickle

from enginery.wire.objects import ObjectInfo, find_reference, reference_to, show_object, store_of

ID = bytes(range(16))


def test_a_reference_is_no_pickle_and_says_what_it_refers_to():
    info = ObjectInfo(ID, 1 << 40)
    reference = reference_to(info)
    assert find_reference(reference) == info
    assert not pickle.dumps(0, 5).startswith(reference[:1])


def test_what_is_no_reference_is_none():
    assert find_reference(b"") is None
    assert find_reference(pickle.dumps("value", 5)) is None
    assert find_reference(reference_to(ObjectInfo(ID, 1))[:-1]) is None


def test_an_id_begins_with_its_store():
    assert store_of(ID) == ID[:8]
    assert show_object(ID[:8] + (17).to_bytes(8, "big")) == "00010203-17"
