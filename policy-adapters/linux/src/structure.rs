//! The structure of `table inet tollway`, built with libnftnl: the table, its maps, the forward chain and one
//! rule per map. What the crate `nftnl` lacks (table flags, maps, lookups with a result, setting the
//! priority) is done here with `nftnl_sys`.

use nftnl::expr::{Expression, Verdict};
use nftnl::nftnl_sys::{self as sys, libc as c};
use nftnl::{Chain, ChainType, Hook, MsgType, NlMsg, Policy, ProtoFamily, Rule, Table};
use std::ffi::{CString, c_char, c_void};
use std::ptr::NonNull;
use tollway_netlink::layout::ROOT;
use tollway_netlink::nft::{CHAIN, Map, Ports, SET_FLAGS, TABLE, TYPE_CLASSID};
use tollway_netlink::wire;

/// `NF_IP_PRI_MANGLE`.
pub const PRIORITY_MANGLE: i32 = -150;
/// First 32-bit register of a key (`NFT_REG32_00`).
const KEY_REGISTER: u32 = 8;
const REGISTER: u32 = sys::libc::NFT_REG_1 as u32;

/// Messages of the structure, without framing and without acknowledgements.
#[derive(Default)]
pub struct Messages {
    bytes: Vec<u8>,
    scratch: Vec<u8>,
}

impl Messages {
    pub fn into_bytes(self) -> Vec<u8> {
        self.bytes
    }

    fn push(&mut self, message: &impl NlMsg, seq: u32) {
        self.scratch.clear();
        self.scratch.resize(nftnl::nft_nlmsg_maxsize() as usize, 0);
        // SAFETY: `scratch` has room for the largest message, as `write` demands.
        unsafe { message.write(self.scratch.as_mut_ptr().cast::<c_void>(), seq, MsgType::Add) };
        let len = self.scratch.get(..4).and_then(wire::get_u32).unwrap_or(0) as usize;
        let message = &mut self.scratch[..len];
        // libnftnl's wrappers ask for an acknowledgement each; the sender asks for the last one only.
        let flags = u16::from_ne_bytes([message[6], message[7]]) & !wire::NLM_F_ACK;
        message[6..8].copy_from_slice(&flags.to_ne_bytes());
        self.bytes.extend_from_slice(message);
        let padded = self.bytes.len().next_multiple_of(4);
        self.bytes.resize(padded, 0);
    }

    /// The table itself; creating one that exists re-owns it.
    pub fn table(&mut self, seq: u32, flags: u32) {
        self.push(&FlaggedTable { flags }, seq);
    }

    pub fn map(&mut self, seq: u32, map: Map) {
        self.push(&MapMessage { map, id: seq }, seq);
    }

    pub fn chain(&mut self, seq: u32) {
        let table = table();
        self.push(&chain(&table), seq);
    }

    /// All rules in order, one message each; returns the next sequence number.
    pub fn rules(&mut self, mut seq: u32) -> u32 {
        let table = table();
        let chain = chain(&table);
        for rule in rules(&chain) {
            self.push(&rule, seq);
            seq += 1;
        }
        seq
    }
}

fn name(text: &str) -> CString {
    CString::new(text).expect("our names hold no NUL")
}

fn table() -> Table {
    Table::new(name(TABLE), ProtoFamily::Inet)
}

fn chain(table: &Table) -> Chain<'_> {
    let mut chain = Chain::new(name(CHAIN), table);
    chain.set_hook(Hook::Forward, PRIORITY_MANGLE);
    chain.set_type(ChainType::Filter);
    chain.set_policy(Policy::Accept);
    chain
}

/// One rule per map, exact keys before wildcards, `return` after a hit; at last a rule that takes away a
/// priority that somebody merely claims. Nothing here can drop a packet.
fn rules<'a>(chain: &'a Chain<'a>) -> Vec<Rule<'a>> {
    let mut rules: Vec<Rule<'a>> = Map::ALL.into_iter().map(|map| lookup_rule(chain, map)).collect();
    rules.push(claim_rule(chain));
    rules
}

fn lookup_rule<'a>(chain: &'a Chain<'a>, map: Map) -> Rule<'a> {
    let mut rule = Rule::new(chain);
    let (family, address, addresses_at) =
        if map.is_v6() { (c::NFPROTO_IPV6, 16, 8) } else { (c::NFPROTO_IPV4, 4, 12) };
    rule.add_expr(&Expr::MetaLoad { key: c::NFT_META_NFPROTO, to: REGISTER });
    rule.add_expr(&Expr::Equals { from: REGISTER, value: vec![u8::try_from(family).unwrap_or(0)] });
    let mut register = KEY_REGISTER;
    let network = c::NFT_PAYLOAD_NETWORK_HEADER;
    for offset in [addresses_at, addresses_at + address] {
        rule.add_expr(&Expr::Payload { base: network, offset, len: address, to: register });
        register += address / 4;
    }
    rule.add_expr(&Expr::MetaLoad { key: c::NFT_META_L4PROTO, to: register });
    let ports: &[u32] = match map.ports() {
        Ports::Both => &[0, 2],
        Ports::Source => &[0],
        Ports::Destination => &[2],
    };
    for offset in ports {
        register += 1;
        let base = c::NFT_PAYLOAD_TRANSPORT_HEADER;
        rule.add_expr(&Expr::Payload { base, offset: *offset, len: 2, to: register });
    }
    rule.add_expr(&Expr::Lookup { from: KEY_REGISTER, to: REGISTER, map });
    rule.add_expr(&Expr::SetPriority { from: REGISTER });
    rule.add_expr(&Verdict::Return);
    rule
}

/// A forwarded packet that no map knows must not bring a class id of its own (a socket option, another
/// tool's rule): it would ride in a payer's class. Other priorities are left alone; HTB ignores them.
fn claim_rule<'a>(chain: &'a Chain<'a>) -> Rule<'a> {
    let mut rule = Rule::new(chain);
    rule.add_expr(&Expr::MetaLoad { key: c::NFT_META_PRIORITY, to: REGISTER });
    rule.add_expr(&Expr::Mask { register: REGISTER, mask: 0xffff_0000 });
    rule.add_expr(&Expr::Equals { from: REGISTER, value: ROOT.0.to_ne_bytes().to_vec() });
    rule.add_expr(&Expr::Immediate { to: REGISTER, value: 0 });
    rule.add_expr(&Expr::SetPriority { from: REGISTER });
    rule
}

/// The expressions that the crate `nftnl` lacks or fixes to one register.
enum Expr {
    MetaLoad { key: i32, to: u32 },
    SetPriority { from: u32 },
    Payload { base: i32, offset: u32, len: u32, to: u32 },
    Equals { from: u32, value: Vec<u8> },
    Mask { register: u32, mask: u32 },
    Immediate { to: u32, value: u32 },
    Lookup { from: u32, to: u32, map: Map },
}

impl Expr {
    fn kind(&self) -> &'static std::ffi::CStr {
        match self {
            Expr::MetaLoad { .. } | Expr::SetPriority { .. } => c"meta",
            Expr::Payload { .. } => c"payload",
            Expr::Equals { .. } => c"cmp",
            Expr::Mask { .. } => c"bitwise",
            Expr::Immediate { .. } => c"immediate",
            Expr::Lookup { .. } => c"lookup",
        }
    }
}

impl Expression for Expr {
    fn to_expr(&self, _rule: &Rule<'_>) -> NonNull<sys::nftnl_expr> {
        // SAFETY: the name is a NUL-terminated constant.
        let expr = unsafe { sys::nftnl_expr_alloc(self.kind().as_ptr()) };
        let expr = NonNull::new(expr).expect("libnftnl has memory and knows its own expressions");
        let number = |attr: u32, value: u32| {
            // SAFETY: `expr` was just allocated and lives; the attribute takes a 32-bit number.
            unsafe { sys::nftnl_expr_set_u32(expr.as_ptr(), attr as u16, value) };
        };
        let data = |attr: u32, value: &[u8]| {
            let len = u32::try_from(value.len()).unwrap_or(0);
            // SAFETY: `expr` lives; pointer and length describe `value`, which libnftnl copies.
            unsafe { sys::nftnl_expr_set(expr.as_ptr(), attr as u16, value.as_ptr().cast::<c_void>(), len) };
        };
        match self {
            Expr::MetaLoad { key, to } => {
                number(sys::NFTNL_EXPR_META_KEY, key.cast_unsigned());
                number(sys::NFTNL_EXPR_META_DREG, *to);
            }
            Expr::SetPriority { from } => {
                number(sys::NFTNL_EXPR_META_KEY, c::NFT_META_PRIORITY.cast_unsigned());
                number(sys::NFTNL_EXPR_META_SREG, *from);
            }
            Expr::Payload { base, offset, len, to } => {
                number(sys::NFTNL_EXPR_PAYLOAD_BASE, base.cast_unsigned());
                number(sys::NFTNL_EXPR_PAYLOAD_OFFSET, *offset);
                number(sys::NFTNL_EXPR_PAYLOAD_LEN, *len);
                number(sys::NFTNL_EXPR_PAYLOAD_DREG, *to);
            }
            Expr::Equals { from, value } => {
                number(sys::NFTNL_EXPR_CMP_SREG, *from);
                number(sys::NFTNL_EXPR_CMP_OP, c::NFT_CMP_EQ.cast_unsigned());
                data(sys::NFTNL_EXPR_CMP_DATA, value);
            }
            Expr::Mask { register, mask } => {
                number(sys::NFTNL_EXPR_BITWISE_SREG, *register);
                number(sys::NFTNL_EXPR_BITWISE_DREG, *register);
                number(sys::NFTNL_EXPR_BITWISE_LEN, 4);
                data(sys::NFTNL_EXPR_BITWISE_MASK, &mask.to_ne_bytes());
                data(sys::NFTNL_EXPR_BITWISE_XOR, &0u32.to_ne_bytes());
            }
            Expr::Immediate { to, value } => {
                number(sys::NFTNL_EXPR_IMM_DREG, *to);
                data(sys::NFTNL_EXPR_IMM_DATA, &value.to_ne_bytes());
            }
            Expr::Lookup { from, to, map } => {
                number(sys::NFTNL_EXPR_LOOKUP_SREG, *from);
                number(sys::NFTNL_EXPR_LOOKUP_DREG, *to);
                let set = name(map.name());
                // SAFETY: `expr` lives; the string is NUL-terminated and libnftnl copies it.
                unsafe {
                    sys::nftnl_expr_set_str(expr.as_ptr(), sys::NFTNL_EXPR_LOOKUP_SET as u16, set.as_ptr());
                }
            }
        }
        expr
    }
}

/// `nftnl::Table` writes its flags as 0.
struct FlaggedTable {
    flags: u32,
}

// SAFETY: `write` builds one message with libnftnl at `buf`, which has room for the largest one.
unsafe impl NlMsg for FlaggedTable {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, _kind: MsgType) {
        let table_name = name(TABLE);
        // SAFETY: the table is allocated, filled, written and freed here; strings outlive the calls; `buf`
        // has room, as the trait demands.
        unsafe {
            let table = NonNull::new(sys::nftnl_table_alloc()).expect("libnftnl has memory").as_ptr();
            sys::nftnl_table_set_u32(table, sys::NFTNL_TABLE_FAMILY as u16, ProtoFamily::Inet as u32);
            sys::nftnl_table_set_str(table, sys::NFTNL_TABLE_NAME as u16, table_name.as_ptr());
            sys::nftnl_table_set_u32(table, sys::NFTNL_TABLE_FLAGS as u16, self.flags);
            let header = sys::nftnl_nlmsg_build_hdr(
                buf.cast::<c_char>(),
                c::NFT_MSG_NEWTABLE as u16,
                ProtoFamily::Inet as u16,
                c::NLM_F_CREATE as u16,
                seq,
            );
            sys::nftnl_table_nlmsg_build_payload(header, table);
            sys::nftnl_table_free(table);
        }
    }
}

/// A map from a concatenated key to a class id.
struct MapMessage {
    map: Map,
    /// Number of the set inside the transaction.
    id: u32,
}

// SAFETY: `write` builds one message with libnftnl at `buf`, which has room for the largest one.
unsafe impl NlMsg for MapMessage {
    unsafe fn write(&self, buf: *mut c_void, seq: u32, _kind: MsgType) {
        let (table_name, set_name) = (name(TABLE), name(self.map.name()));
        let numbers = [
            (sys::NFTNL_SET_FAMILY, ProtoFamily::Inet as u32),
            (sys::NFTNL_SET_FLAGS, SET_FLAGS),
            (sys::NFTNL_SET_KEY_TYPE, self.map.key_type()),
            (sys::NFTNL_SET_KEY_LEN, self.map.key_len()),
            (sys::NFTNL_SET_DATA_TYPE, TYPE_CLASSID),
            (sys::NFTNL_SET_DATA_LEN, 4),
            (sys::NFTNL_SET_ID, self.id),
        ];
        // What nft writes itself, so that `nft list` knows the byte orders: key big-endian, data host.
        let userdata: [u8; 12] = userdata();
        // SAFETY: the set is allocated, filled, written and freed here; strings and data outlive the calls
        // that copy them; `buf` has room, as the trait demands.
        unsafe {
            let set = NonNull::new(sys::nftnl_set_alloc()).expect("libnftnl has memory").as_ptr();
            sys::nftnl_set_set_str(set, sys::NFTNL_SET_TABLE as u16, table_name.as_ptr());
            sys::nftnl_set_set_str(set, sys::NFTNL_SET_NAME as u16, set_name.as_ptr());
            for (attr, value) in numbers {
                sys::nftnl_set_set_u32(set, attr as u16, value);
            }
            let len = userdata.len() as u32;
            sys::nftnl_set_set_data(set, sys::NFTNL_SET_USERDATA as u16, userdata.as_ptr().cast(), len);
            let header = sys::nftnl_nlmsg_build_hdr(
                buf.cast::<c_char>(),
                c::NFT_MSG_NEWSET as u16,
                ProtoFamily::Inet as u16,
                c::NLM_F_CREATE as u16,
                seq,
            );
            sys::nftnl_set_nlmsg_build_payload(header, set);
            sys::nftnl_set_free(set);
        }
    }
}

/// Two user-data TLVs of nft: KEYBYTEORDER (0) = big-endian (2), DATABYTEORDER (1) = host (1).
fn userdata() -> [u8; 12] {
    let [a, b, c, d] = 2u32.to_ne_bytes();
    let [e, f, g, h] = 1u32.to_ne_bytes();
    [0, 4, a, b, c, d, 1, 4, e, f, g, h]
}
