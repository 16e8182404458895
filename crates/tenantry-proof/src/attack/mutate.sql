do $proof$
declare
  v_whole bytea := decode('{message}{code}', 'hex');
  v_length int := octet_length(v_whole);
  v_bits int := 8 * v_length;
  v_bytes bytea;
  v_number int8;
  v_pair int8;
  v_tried int8 := 0;
  v_accepted int8 := 0;
begin
  perform setseed({seed});
  for v_number in {first} .. {first} + {number} - 1 loop
    v_bytes := v_whole;
    if v_number < 255 * v_length then
      -- one byte, each value but its own
      v_bytes := set_byte(v_bytes, (v_number / 255)::int,
                          (get_byte(v_bytes, (v_number / 255)::int) + 1 + (v_number % 255)::int) % 256);
    elsif v_number < 255 * v_length + v_bits * (v_bits - 1) then
      -- two bits
      v_pair := v_number - 255 * v_length;
      v_bytes := set_bit(v_bytes, v_pair / (v_bits - 1), 1 - get_bit(v_bytes, v_pair / (v_bits - 1)));
      v_pair := (v_pair / (v_bits - 1) + 1 + v_pair % (v_bits - 1)) % v_bits;
      v_bytes := set_bit(v_bytes, v_pair, 1 - get_bit(v_bytes, v_pair));
    else
      -- up to eight bytes at random
      while v_bytes = v_whole loop
        for v_step in 1 .. 1 + floor(random() * 8)::int loop
          v_bytes := set_byte(v_bytes, floor(random() * v_length)::int, floor(random() * 256)::int);
        end loop;
      end loop;
    end if;
    v_tried := v_tried + 1;
    begin
      perform tenantry.enter(substr(v_bytes, 1, 58), substr(v_bytes, 59));
      v_accepted := v_accepted + 1;
    exception when sqlstate '28000' or sqlstate 'TN001' or sqlstate 'TN002' or sqlstate 'TN003' then
      null;
    end;
  end loop;
  perform set_config('proof.tried', v_tried::text, false), set_config('proof.accepted', v_accepted::text, false);
end $proof$;
